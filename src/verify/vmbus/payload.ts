/** The recorder's payloads: a xorshift32 of the seed. */
export function payloadOf(seed: number, bytes: number): Uint8Array {
	let x = (Math.imul(seed, 0x9e3779b1) + 1) | 0;
	return Uint8Array.from({ length: bytes }, () => {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		return x & 0xff;
	});
}
