import { MAX_GPA } from "../layout/context.ts";

/**
 * An address that came as an f64: from JavaScript, or out of a list in memory.
 * What is no whole number, negative or 2^52 and above becomes 2^64 - 1, which is in no region.
 */
export function addressOf(address: f64): u64 {
	return address >= 0 && address < MAX_GPA && floor(address) === address ? u64(i64(address)) : u64.MAX_VALUE;
}
