/** Values of message fields (Linux include/linux/hyperv.h; OpenVMM vmbus_core/src/protocol.rs). */

/** User data of an offer and of OPENCHANNEL (bytes). */
export const USER_DATA_BYTES = 120;
/** Monitor ids are bits of a monitor page: 0 up to this. */
export const MONITOR_IDS = 128;
/** Monitor id of a channel that has none. */
export const NO_MONITOR_ID = 255;
/** Target VP of a channel that wants no interrupts. */
export const NO_INTERRUPT_VP = 0xffffffff;
/** Status of what was refused, in GPADL_CREATED, OPENCHANNEL_RESULT and MODIFYCHANNEL_RESPONSE. */
export const STATUS_UNSUCCESSFUL = 0x8000ffff;
/** NT status of a refused hvsock connection: guests show it as such. */
export const STATUS_CONNECTION_REFUSED = 0xc0000236;

/** Flags of OPENCHANNEL. */
export const OpenFlag = {
	/** Interrupts go to the paravisor first. */
	RedirectInterrupt: 1,
} as const;

/** Connection state of VERSION_RESPONSE and MODIFY_CONNECTION_RESPONSE. */
export const ConnectionState = { Ok: 0, LowResources: 1, UnknownFailure: 2 } as const;
