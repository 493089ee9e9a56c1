/** HvPostMessage and HvSignalEvent: input layouts and the control word (Hyper-V top-level functional specification). */
import { HvStatus } from "./status.ts";
import { HvMessage, MAX_MESSAGE_BYTES } from "./synic.ts";

export const CallCode = { PostMessage: 0x5c, SignalEvent: 0x5d } as const;

/** Bytes of HvPostMessage's input: connection id, 4 reserved, message type, payload size, payload[240]. */
export const POST_INPUT_BYTES = 256;
/** Bytes of HvSignalEvent's input: connection id, flag number u16, 2 reserved. */
export const SIGNAL_INPUT_BYTES = 8;

const FAST = 1n << 16n;
const VAR_HEADER = 0x3ffn << 17n;
const NESTED = 1n << 31n;
const REP_COUNT = 0xfffn << 32n;
const REP_START = 0xfffn << 48n;
const RESERVED = (0xfn << 27n) | (0xfn << 44n) | (0xfn << 60n);

/** A control word for a call without repetitions. */
export function controlWord(code: number, fast: boolean): bigint {
	return BigInt(code) | (fast ? FAST : 0n);
}

/** Call code and fast form, or the status that refuses the word: neither call repeats, has a variable header or is nested. */
export function parseControl(control: bigint): { code: number; fast: boolean } | HvStatus {
	const code = Number(control & 0xffffn);
	if (code !== CallCode.PostMessage && code !== CallCode.SignalEvent) return HvStatus.INVALID_HYPERCALL_CODE;
	if ((control & (VAR_HEADER | NESTED | REP_COUNT | REP_START | RESERVED)) !== 0n || control >> 64n !== 0n)
		return HvStatus.INVALID_HYPERCALL_INPUT;
	const fast = (control & FAST) !== 0n;
	// 256 bytes do not fit in registers
	if (fast && code === CallCode.PostMessage) return HvStatus.INVALID_HYPERCALL_INPUT;
	return { code, fast };
}

/** A message as a guest posts it. */
export interface PostInput {
	readonly connectionId: number;
	readonly type: number;
	readonly payload: Uint8Array;
}

/** HvPostMessage's input block. @throws RangeError for more than 240 bytes */
export function encodePost({ connectionId, type, payload }: PostInput): Uint8Array {
	if (payload.length > MAX_MESSAGE_BYTES)
		throw new RangeError(`a message has at most ${MAX_MESSAGE_BYTES} bytes, not ${payload.length}`);
	const input = new Uint8Array(POST_INPUT_BYTES);
	const data = new DataView(input.buffer);
	data.setUint32(0, connectionId, true);
	data.setUint32(8, type, true);
	data.setUint32(12, payload.length, true);
	input.set(payload, 16);
	return input;
}

/** Reads a copy of the input block; the payload is a view of it. */
export function decodePost(input: Uint8Array): PostInput | HvStatus {
	const data = new DataView(input.buffer, input.byteOffset, POST_INPUT_BYTES);
	const type = data.getUint32(8, true);
	const bytes = data.getUint32(12, true);
	if (bytes > MAX_MESSAGE_BYTES || type === 0 || type >= HvMessage.UnmappedGpa) return HvStatus.INVALID_PARAMETER;
	return { connectionId: data.getUint32(0, true), type, payload: input.subarray(16, 16 + bytes) };
}

export interface SignalInput {
	readonly connectionId: number;
	readonly flag: number;
}

/** HvSignalEvent's input as one register. */
export function encodeSignal({ connectionId, flag }: SignalInput): bigint {
	return BigInt(connectionId) | (BigInt(flag) << 32n);
}

export function decodeSignal(value: bigint): SignalInput {
	return { connectionId: Number(value & 0xffffffffn), flag: Number((value >> 32n) & 0xffffn) };
}
