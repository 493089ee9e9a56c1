/** Protocol versions, feature flags and connection ids of VMBus (Linux include/linux/hyperv.h; OpenVMM vmbus_core/src/protocol.rs). */

/** Versions: major << 16 | minor. */
export const Version = {
	V0_13: 0x0000000d,
	V1_1: 0x00010001,
	V2_4: 0x00020004,
	V3_0: 0x00030000,
	V4_0: 0x00040000,
	V4_1: 0x00040001,
	V5_0: 0x00050000,
	V5_1: 0x00050001,
	V5_2: 0x00050002,
	V5_3: 0x00050003,
	V6_0: 0x00060000,
} as const;
export type Version = (typeof Version)[keyof typeof Version];

/** Feature flags of INITIATE_CONTACT and VERSION_RESPONSE (u32, from 6.0). */
export const Feature = {
	GuestSpecifiedSignalParameters: 0x01,
	ChannelInterruptRedirection: 0x02,
	ModifyConnection: 0x04,
	ClientId: 0x08,
	ConfidentialChannels: 0x10,
	PauseResume: 0x20,
	ServerSpecifiedMonitorPages: 0x40,
	GpaPinning: 0x80,
} as const;

/** Well-known connection ids of HvPostMessage and HvSignalEvent. */
export const ConnectionId = {
	/** INITIATE_CONTACT before 5.0. */
	Message: 1,
	/** The event that guests before 1.1 share among their channels. */
	Event: 2,
	Monitor: 3,
	/** INITIATE_CONTACT from 5.0 ("multiclient"). */
	Message4: 4,
	/** The control plane of a guest in VTL2: 4 | VTL 2 << 22 | SINT 7 << 4. */
	RedirectVtl2: 0x800074,
} as const;

/** Flags of an offer. */
export const OfferFlag = {
	EnumerateDeviceInterface: 0x0001,
	/** Legal only when Feature.ConfidentialChannels was negotiated, as the next one. */
	ConfidentialRingBuffer: 0x0002,
	/** Legal only together with ConfidentialRingBuffer. */
	ConfidentialExternalMemory: 0x0004,
	PinnedExternalMemory: 0x0008,
	NamedPipeMode: 0x0010,
	Loopback: 0x0100,
	ParentOffer: 0x0200,
	RequestMonitoredNotification: 0x0400,
	/** An hvsock channel. */
	TlnpiProvider: 0x2000,
} as const;

/** A version as people write it: "5.3". */
export function versionName(version: number): string {
	return `${version >>> 16}.${version & 0xffff}`;
}

/** Names of the flags set in `value`, and the rest in hex. */
export function flagNames(flags: Readonly<Record<string, number>>, value: number): string[] {
	const names = Object.entries(flags).filter(([, bit]) => (value & bit) !== 0);
	const rest = names.reduce((left, [, bit]) => left & ~bit, value) >>> 0;
	return [...names.map(([name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])];
}
