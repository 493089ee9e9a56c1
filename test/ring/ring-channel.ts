/** Rings for the tests: an engine with RAM, page lists, a writer and a reader over the same pages, and a peer's hand on the header. */
import * as layout from "../../assembly/layout/ring.ts";
import { Engine } from "../../src/engine.ts";
import type { Build, EngineExports } from "../../src/wasm.ts";

export const RING_GPA = 0x10000;
export const PAGE = 4096;

/** gpas of `count` pages, one behind the other or in an order that never joins two. */
export function pageList(count: number, scattered: boolean, gpa = RING_GPA): number[] {
	return Array.from({ length: count }, (_, i) => gpa + (scattered ? 2 * (count - 1 - i) : i) * PAGE);
}

export interface TestRing {
	readonly engine: Engine;
	readonly exports: EngineExports;
	readonly writer: number;
	readonly reader: number;
	readonly pages: readonly number[];
	readonly dataBytes: number;
	/** ptr of room for the largest packet. */
	readonly buffer: number;
	/** Writes a header word as the peer would. */
	poke(offset: number, value: number): void;
	peek(offset: number): number;
	/** Writes data bytes at a data offset as the peer would, wrapping. */
	pokeData(offset: number, bytes: ArrayLike<number>): void;
	data(): Uint8Array;
	/** A field of one end's record. */
	field(ring: number, offset: number): number;
	/** Puts a payload into the buffer. @returns its ptr */
	payload(bytes: ArrayLike<number>): number;
	bytes(ptr: number, length: number): Uint8Array;
}

export interface TestRingOptions {
	readonly pages?: number;
	readonly scattered?: boolean;
	readonly strict?: boolean;
	readonly maxPacketBytes?: number;
	readonly requests?: number;
	readonly build?: Build;
}

/** A ring with a writer and a reader of one behaviour on a new engine. */
export async function testRing(options: TestRingOptions = {}): Promise<TestRing> {
	const { pages: count = 3, scattered = false, maxPacketBytes = 4096, requests = 0 } = options;
	const ramBytes = RING_GPA + 2 * count * PAGE;
	const engine = await Engine.create({
		ram: [{ gpa: 0, bytes: Math.max(ramBytes, 2 ** 20) }],
		swiotlb: null,
		coco: false,
		build: options.build ?? "engine",
		spareBytes: 2 ** 22,
	});
	const { exports } = engine.instance;
	const pages = pageList(count, scattered);
	const gpas = engine.scratch(count * 8);
	for (const [i, gpa] of pages.entries()) engine.instance.data.setFloat64(gpas + 8 * i, gpa, true);
	const strict = options.strict ? layout.RING_STRICT : 0;
	const writer = exports.ringAttach(gpas, count, layout.RING_INIT | strict, maxPacketBytes, requests);
	const reader = exports.ringAttach(gpas, count, layout.RING_READER | strict, maxPacketBytes, 0);
	if (writer < 0 || reader < 0) throw new Error(`attach: ${writer}, ${reader}`);
	const buffer = engine.scratch(2 ** 20);
	const dataBytes = (count - 1) * PAGE;
	const pageOf = (at: number) => pages[1 + Math.floor(at / PAGE)] as number;
	const header = () => engine.instance.data;
	const headerPtr = engine.instance.exports.ramPtr(pages[0] as number, PAGE);
	return {
		engine,
		exports,
		writer,
		reader,
		pages,
		dataBytes,
		buffer,
		poke: (offset, value) => header().setUint32(headerPtr + offset, value, true),
		peek: (offset) => header().getUint32(headerPtr + offset, true),
		pokeData: (offset, bytes) => {
			for (let i = 0; i < bytes.length; i++) {
				const at = (offset + i) % dataBytes;
				engine.ram.write(pageOf(at) + (at % PAGE), Uint8Array.of(bytes[i] as number));
			}
		},
		data: () => {
			const out = new Uint8Array(dataBytes);
			for (let at = 0; at < dataBytes; at += PAGE) out.set(engine.ram.read(pageOf(at), PAGE), at);
			return out;
		},
		field: (ring, offset) => engine.instance.u32(exports.ringPtr(ring) + offset),
		payload: (bytes) => {
			engine.instance.bytes.set(Array.from(bytes), buffer);
			return buffer;
		},
		bytes: (ptr, length) => new Uint8Array(engine.instance.bytes.subarray(ptr, ptr + length)),
	};
}
