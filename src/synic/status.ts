/** Results of hypercalls (Linux include/asm-generic/hyperv-tlfs.h; OpenVMM vm/hv1/hvdef/src/lib.rs). */
export const HvStatus = {
	SUCCESS: 0,
	INVALID_HYPERCALL_CODE: 2,
	INVALID_HYPERCALL_INPUT: 3,
	INVALID_ALIGNMENT: 4,
	INVALID_PARAMETER: 5,
	ACCESS_DENIED: 6,
	OPERATION_DENIED: 8,
	INSUFFICIENT_MEMORY: 11,
	INVALID_VP_INDEX: 14,
	INVALID_PORT_ID: 17,
	INVALID_CONNECTION_ID: 18,
	INSUFFICIENT_BUFFERS: 19,
	INVALID_SYNIC_STATE: 24,
	OBJECT_IN_USE: 25,
	TIMEOUT: 120,
	VTL_ALREADY_ENABLED: 134,
} as const;
export type HvStatus = (typeof HvStatus)[keyof typeof HvStatus];

const NAMES = new Map<number, string>(Object.entries(HvStatus).map(([name, code]) => [code, name]));

/** Name of a status, or its number. */
export function hvStatusName(status: number): string {
	return NAMES.get(status) ?? String(status);
}
