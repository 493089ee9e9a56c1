/** What private memory looks like to whom the key is not for. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";

/** Bytes that a cipher changes as one: 16-byte blocks, each tweaked by its address. */
export const CIPHER_BLOCK_BYTES = 16;

/** A guest's memory key. The same plaintext at two addresses has two ciphertexts. */
export interface MemoryCipher {
	/** Whether this is the memory controller's cipher; false: a seeded stand-in, good for scrambling only. */
	readonly isAes: boolean;
	/** gpa and data.length: multiples of 16 (bytes) */
	encrypt(gpa: Gpa, data: Uint8Array): Uint8Array;
	/** As encrypt; decrypt(gpa, encrypt(gpa, data)) is data. */
	decrypt(gpa: Gpa, data: Uint8Array): Uint8Array;
}

/** Thrown where ciphertext is asked for and AES-XTS is not there. */
export class CipherUnavailable extends Error {
	override readonly name = "CipherUnavailable";

	constructor(reason: string) {
		super(`the host's view of encrypted memory needs AES-XTS of node:crypto: ${reason}`);
	}
}

/**
 * AES-256-XTS with a key from `seed`, as AMD's memory controllers encrypt (EPYC 9004; earlier ones AES-128). The data unit
 * is a page and the tweak its number; on hardware the tweak is the system physical address, which a guest does not know,
 * so gpa stands for it.
 * @throws CipherUnavailable (as a rejection) where there is no node:crypto, as in a browser
 */
export async function loadCipher(seed = 1): Promise<MemoryCipher> {
	// not an import: a browser, and a bundler for it, would have to find the module
	const crypto = globalThis.process?.getBuiltinModule?.("node:crypto");
	if (crypto === undefined) throw new CipherUnavailable("there is none here, as in a browser");
	if (!crypto.getCiphers().includes("aes-256-xts")) throw new CipherUnavailable("this build of it lacks aes-256-xts");
	const key = crypto.createHash("sha512").update(`coco-dma memory key ${seed}`).digest();
	const tweak = new Uint8Array(16);
	const tweakOf = (gpa: Gpa) => {
		new DataView(tweak.buffer).setBigUint64(0, BigInt(gpa) / BigInt(PAGE_SIZE), true);
		return tweak;
	};
	return {
		isAes: true,
		encrypt: (gpa, data) =>
			byPages(gpa, data, (start, page) => crypto.createCipheriv("aes-256-xts", key, tweakOf(start)).update(page)),
		decrypt: (gpa, data) =>
			byPages(gpa, data, (start, page) => crypto.createDecipheriv("aes-256-xts", key, tweakOf(start)).update(page)),
	};
}

/** Runs a page cipher over a range, each piece at its place in its page. */
function byPages(gpa: Gpa, data: Uint8Array, one: (gpa: Gpa, page: Uint8Array) => Uint8Array): Uint8Array {
	checkBlocks(gpa, data);
	const out = new Uint8Array(data.length);
	const page = new Uint8Array(PAGE_SIZE);
	for (let at = 0; at < data.length; ) {
		const offset = (gpa + at) % PAGE_SIZE;
		const piece = data.subarray(at, at + PAGE_SIZE - offset);
		page.set(piece, offset);
		out.set(one(gpa + at, page).subarray(offset, offset + piece.length), at);
		at += piece.length;
	}
	return out;
}

function checkBlocks(gpa: Gpa, data: Uint8Array): void {
	if (gpa % CIPHER_BLOCK_BYTES !== 0 || data.length % CIPHER_BLOCK_BYTES !== 0)
		throw new RangeError(`a cipher takes whole 16-byte blocks, not ${data.length} bytes at gpa ${gpa}`);
}

/** A reproducible stand-in: every 32-bit word XORed with a hash of seed and address. Scrambles alike in both directions. */
export function seededCipher(seed = 1): MemoryCipher {
	const scramble = (gpa: Gpa, data: Uint8Array) => {
		checkBlocks(gpa, data);
		const out = new Uint8Array(data);
		const view = new DataView(out.buffer);
		for (let at = 0; at < out.length; at += 4) {
			const address = gpa + at;
			const key = mix(mix(seed ^ Math.floor(address / 2 ** 32)) ^ (address >>> 0));
			view.setUint32(at, view.getUint32(at, true) ^ key, true);
		}
		return out;
	};
	return { isAes: false, encrypt: scramble, decrypt: scramble };
}

/** A 32-bit finaliser: every input bit changes about half of the output's. */
function mix(value: number): number {
	let x = Math.imul((value ^ 0x9e3779b9) | 0, 0x85ebca6b);
	x ^= x >>> 13;
	x = Math.imul(x, 0xc2b2ae35);
	x ^= x >>> 16;
	x = Math.imul(x, 0x27d4eb2f);
	return x ^ (x >>> 15);
}
