/** What a kernel reports about the platform that it runs on. */
import type { Platform } from "../platform/platform.ts";
import type { Kernel } from "./kernel.ts";

/** cc_platform_has(). */
interface Attributes {
	/** CC_ATTR_MEM_ENCRYPT: one of the others. */
	readonly memEncrypt: boolean;
	/** CC_ATTR_GUEST_MEM_ENCRYPT. */
	readonly guest: boolean;
	/** CC_ATTR_HOST_MEM_ENCRYPT. */
	readonly host: boolean;
}

export function attributesOf({ rules }: Kernel, { protection }: Platform): Attributes {
	const memEncrypt = rules.reportsEncryption.is.includes(protection);
	const host = memEncrypt && protection === "host";
	return { memEncrypt, guest: memEncrypt && !host, host };
}

/** Whether the kernel takes itself for a confidential guest, whose devices reach shared memory only unless they are accepted. */
export function isConfidentialGuest({ rules }: Kernel, { protection }: Platform): boolean {
	return rules.needsUnencrypted.is.includes(protection);
}
