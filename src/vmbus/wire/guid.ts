/** GUIDs: canonical lower-case text, and 16 bytes whose first three groups are little-endian. */

/** Where each pair of hex digits of the text stands among the bytes. */
const ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;
const TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Interface types of the synthetic devices (Linux include/linux/hyperv.h). */
export const DeviceType = {
	Ide: "32412632-86cb-44a2-9b5c-50d1417354f5",
	Scsi: "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f",
	FibreChannel: "2f9bcc4a-0069-4af3-b76b-6fd0be528cda",
	Network: "f8615163-df3e-46c5-913f-f2d2f965ed0e",
	NetworkDirect: "8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501",
	PciExpress: "44c4f61d-4444-4400-9d52-802e27ede19f",
	Video: "da0a7802-e377-4aac-8e77-0558eb1073f8",
	Keyboard: "f912ad6d-2b17-48ea-bd65-f927a61c7684",
	Mouse: "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a",
	KeyValuePair: "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6",
	Shutdown: "0e0b6031-5213-4934-818b-38d90ced39db",
	TimeSync: "9527e630-d0ae-497b-adce-e80ab0175caf",
	Heartbeat: "57164f39-9115-4e78-ab55-382f3bd5422d",
	VolumeShadowCopy: "35fa2e29-ea23-4236-96ae-3a6ebacba440",
	DynamicMemory: "525074dc-8985-46e2-8057-a307dc18a502",
	FileCopy: "34d14be3-dee4-41c8-9ae7-6b174977c192",
} as const;

/** Whether a text is a GUID, in any case of letters. */
export function isGuid(text: string): boolean {
	return TEXT.test(text);
}

/** The GUID in bytes[at .. at + 16). */
export function readGuid(bytes: Uint8Array, at: number): string {
	let text = "";
	for (let i = 0; i < 16; i++) {
		if (i === 4 || i === 6 || i === 8 || i === 10) text += "-";
		text += HEX[bytes[at + (ORDER[i] as number)] as number];
	}
	return text;
}

/** Writes a GUID at bytes[at .. at + 16). @throws RangeError when the text is no GUID */
export function writeGuid(bytes: Uint8Array, at: number, text: string): void {
	if (!isGuid(text)) throw new RangeError(`expected a GUID, not "${text}"`);
	const digits = text.replaceAll("-", "");
	for (let i = 0; i < 16; i++) bytes[at + (ORDER[i] as number)] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
}

/** Name of a known interface type, or undefined. */
export function deviceTypeName(guid: string): string | undefined {
	return Object.entries(DeviceType).find(([, type]) => type === guid)?.[0];
}
