import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { Input, type Source, textOf } from "../../src/source.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("source");

type Chunk = string | Uint8Array;

async function* dripped(...chunks: Chunk[]): AsyncGenerator<Chunk> {
	yield* chunks;
}

/** Bytes cut into chunks of these sizes, the rest in one. */
function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
	let at = 0;
	const chunks = sizes.map((size) => {
		at += size;
		return bytes.subarray(at - size, at);
	});
	return [...chunks, bytes.subarray(at)];
}

async function linesOf(source: Source): Promise<string[]> {
	const lines: string[] = [];
	for await (const group of (await Input.open(source, "x")).lines()) for (const line of group) lines.push(line);
	return lines;
}

const anyText = fc.string({ unit: fc.constantFrom("a", "7", " ", "\t", "\n", "\r\n", "é", "€", "😀"), maxLength: 300 });
const anySizes = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 20 });

describe("a source", () => {
	it("is the same text whole, in chunks of any size, and packed", async () => {
		await fc.assert(
			fc.asyncProperty(anyText, anySizes, async (text, sizes) => {
				const bytes = new TextEncoder().encode(text);
				const packed = new Uint8Array(gzipSync(bytes));
				for (const source of [text, bytes, packed, dripped(...cut(bytes, sizes)), dripped(...cut(packed, sizes))])
					expect(await textOf(source, "x")).toBe(text);
				expect(await textOf(new Blob([packed]).stream(), "x")).toBe(text);
			}),
			{ seed: SEED, numRuns: 150 },
		);
	});

	it("has the same lines however it comes: LF or CR LF ends one, the last may have no end", async () => {
		await fc.assert(
			fc.asyncProperty(anyText, anySizes, async (text, sizes) => {
				const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
				if (lines.at(-1) === "") lines.pop();
				const bytes = new TextEncoder().encode(text);
				for (const source of [text, dripped(...cut(bytes, sizes)), gzipSync(bytes)])
					expect(await linesOf(source)).toEqual(lines);
			}),
			{ seed: SEED, numRuns: 150 },
		);
	});

	it("shows its beginning before it is taken, and is then taken from the start", async () => {
		const text = "0123456789".repeat(300_000);
		for (const source of [text, gzipSync(text), dripped(text.slice(0, 5), text.slice(5))]) {
			const input = await Input.open(source, "x");
			expect(input.head).toBe(text.slice(0, 2 ** 20));
			expect(new TextDecoder().decode(input.headBytes).slice(0, 5)).toBe("01234");
			expect(await input.text()).toBe(text);
		}
	});

	it("gives its bytes as they are, text as UTF-8", async () => {
		const data = Uint8Array.from({ length: 5000 }, (_, i) => (i * 7) & 255);
		for (const [source, expected] of [
			[dripped(...cut(data, [1, 2, 3000])), data],
			[gzipSync(data), data],
			["€", Uint8Array.of(0xe2, 0x82, 0xac)],
		] as const) {
			const got: number[] = [];
			for await (const chunk of (await Input.open(source, "x")).bytes()) got.push(...chunk);
			expect(Uint8Array.from(got)).toEqual(expected);
		}
	});

	it("names a torn and a damaged gzip", async () => {
		const packed = new Uint8Array(gzipSync("hello, hello, hello"));
		const damaged = packed.map((byte, i) => (i === packed.length - 6 ? byte ^ 1 : byte));
		for (const bytes of [packed.subarray(0, 12), damaged, Uint8Array.of(0x1f, 0x8b, 9)])
			await expect(textOf(bytes, "a.gz")).rejects.toThrow(/^a\.gz: torn or damaged gzip \(/);
		await expect(textOf(dripped(packed.subarray(0, 12), "text"), "a.gz")).rejects.toThrow(InputError);
	});

	it("fails with what the source itself throws, packed or not", async () => {
		const failing = async function* (bytes: Uint8Array) {
			yield bytes;
			throw new InputError("disk: gone");
		};
		for (const bytes of [gzipSync("abc").subarray(0, 15), new TextEncoder().encode("abc")])
			await expect(textOf(failing(bytes), "x")).rejects.toThrow("disk: gone");
	});

	it("ends with a line that never ends, instead of holding it", async () => {
		const endless = async function* () {
			for (;;) yield "x".repeat(2 ** 16);
		};
		await expect(linesOf(endless())).rejects.toThrow("x:1: line: expected at most 1048576 characters");
		await expect(linesOf(dripped("a\nb\n", "y".repeat(2 ** 21), "\nc"))).rejects.toThrow("x:3: line: expected");
	});

	it("ends with what unpacks to more than it may hold, long before it is unpacked", async () => {
		const bomb = gzipSync(new Uint8Array(80 * 2 ** 20));
		await expect(textOf(bomb, "bomb")).rejects.toThrow(
			/^bomb: \d+ bytes of gzip unpack to more than 300 times as many$/,
		);
		const newlines = gzipSync(new Uint8Array(80 * 2 ** 20).fill(10));
		await expect(linesOf(newlines)).rejects.toThrow("300 times as many");
		const mebibyte = "y".repeat(2 ** 20);
		const long = dripped(...Array.from({ length: 257 }, () => mebibyte));
		await expect(textOf(long, "long")).rejects.toThrow("long: unpacks to more than 268435456 bytes");
	});

	it("lets go of a stream whose reader has seen enough", async () => {
		let ended = false;
		const endless = async function* () {
			try {
				for (;;) yield "a\n";
			} finally {
				ended = true;
			}
		};
		for await (const _ of (await Input.open(endless(), "x")).lines()) break;
		expect(ended).toBe(true);
		ended = false;
		await (await Input.open(endless(), "x")).close();
		expect(ended).toBe(true);
	});

	it("says what was expected of what is no source", async () => {
		for (const [wrong, found] of [
			[7, "7"],
			[null, "null"],
			[{}, "an object"],
			[["a"], "an array"],
		])
			await expect(textOf(wrong as Source, "x")).rejects.toThrow(
				`x: expected text, bytes (Uint8Array), or a stream of either, found ${found}`,
			);
		await expect(textOf(dripped(7 as unknown as string), "x")).rejects.toThrow("x: expected chunks of text or bytes");
	});
});
