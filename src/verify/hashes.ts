/** Hashes that recordings hold of rings, pools and RAM. */
import { createCRC32, createSHA256 } from "hash-wasm";

export interface Hashes {
	/** SHA-256 as 64 hex digits. */
	sha256(bytes: Uint8Array): string;
	/** CRC-32 (IEEE 802.3) as 8 hex digits. */
	crc32(bytes: Uint8Array): string;
}

let loading: Promise<Hashes> | undefined;

/** The hashes, loaded once: a replay needs their answers at once. */
export function loadHashes(): Promise<Hashes> {
	loading ??= Promise.all([createSHA256(), createCRC32()]).then(([sha, crc]) => ({
		sha256: (bytes) => sha.init().update(bytes).digest("hex"),
		crc32: (bytes) => crc.init().update(bytes).digest("hex"),
	}));
	return loading;
}
