/** A guest as a `dma-decisions` case describes it: booted afresh, its pools as they are said to be, and its one device. */

import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import { Guest, type GuestOptions } from "../coco/guest/guest.ts";
import type { GuestPool } from "../coco/memory/pools.ts";
import type { MemoryCipher } from "../coco/platform/ciphertext.ts";
import type { PageConverter } from "../coco/platform/convert.ts";
import type { PlatformName } from "../coco/platform/platform.ts";
import { kernelOfRelease } from "../coco/rules/kernel.ts";
import type { GuestPoolOptions } from "../coco/rules/pool.ts";
import type { Gpa } from "../types.ts";
import type { Build } from "../wasm.ts";
import { createMemory } from "../wasm.ts";
import { type DecisionCase, type DecisionHeader, type DecisionPlatform, SEGMENT_STRIDE } from "./decision-lines.ts";
import { TouchedStretches } from "./stretches.ts";

const PLATFORM_OF: Readonly<Record<DecisionPlatform, PlatformName | null>> = {
	x86: "none",
	sme: null,
	snp: "snp",
	vtom: "snp-vtom",
	tdx: "tdx",
	arm64: "none",
	pkvm: "pkvm",
	cca: "cca",
	s390pv: null,
};

const SLABS = 512;
export const POOL_BYTES = SLABS * IO_TLB_SIZE;
const RAM_END = 17 * 2 ** 30;
/** Where the recordings' allocator takes its pages from, by the zone that was asked for. */
interface ZoneWindow {
	readonly zone: "DMA" | "DMA32" | "Normal";
	readonly gpa: Gpa;
}
const WINDOW_BYTES = 0xf0000;
const ATOMIC_BYTES = 65536;

export function zoneWindows({ arch }: DecisionHeader): readonly ZoneWindow[] {
	return [
		{ zone: "DMA", gpa: arch === "x86" ? 0x800000 : 0x51000000 },
		{ zone: "DMA32", gpa: 0x60000000 },
		{ zone: "Normal", gpa: 0x180000000 },
	];
}

/** Contents count for nothing in a decision, so that conversions leave them. */
const NO_CIPHER: MemoryCipher = { isAes: false, encrypt: (_gpa, data) => data, decrypt: (_gpa, data) => data };

/** Memory that one boot after the other uses. */
export class DecisionArena {
	#memory: WebAssembly.Memory = createMemory(65536, false);
	readonly #build: Build;

	constructor(build: Build) {
		this.#build = build;
	}

	/** Options that place a guest with these stretches in the arena. */
	place(stretches: readonly { gpa: Gpa; bytes: number }[], options: GuestOptions): GuestOptions {
		const plain = { ...options, build: this.#build, ram: stretches };
		const context = { ptr: 65536, bytes: Guest.contextBytes(plain) };
		let ptr = Math.ceil((context.ptr + context.bytes) / 65536) * 65536;
		const ram = stretches.map(({ gpa, bytes }) => {
			const stretch = { gpa, bytes, ptr };
			ptr += bytes;
			return stretch;
		});
		const missing = ptr - this.#memory.buffer.byteLength;
		if (missing > 0) this.#memory.grow(Math.ceil(missing / 65536));
		return { ...plain, ram, memory: this.#memory, context };
	}
}

/** A booted guest, its device, and the pools that the case is about. */
export interface BootedCase {
	readonly guest: Guest;
	readonly device: GuestDevice;
	/** The pool that serves the device, or null. */
	readonly pool: GuestPool | null;
	/** Where the recording has that pool. */
	readonly poolGpa: Gpa;
}

/** Fails the conversions of one pool. */
function failPool(converter: PageConverter, fails: boolean): void {
	const first = converter.platform.conversion.steps.toShared[0]?.step;
	if (fails && first !== undefined) converter.failAt(first);
}

/** Fails the next conversion. */
export function failConversion({ converter }: Guest, to: "toShared" | "toPrivate"): void {
	const first = converter.platform.conversion.steps[to][0]?.step;
	if (first !== undefined) converter.failAt(first);
}

/** Boots the guest of a case. @returns null: it cannot be set up */
export async function bootCase(
	header: DecisionHeader,
	asked: DecisionCase,
	arena: DecisionArena,
): Promise<BootedCase | null> {
	const platform = PLATFORM_OF[asked.platform];
	if (platform === null || asked.pool === "priv" || asked.pool === "null") return null;
	const restricted = asked.pool.startsWith("restr");
	const high = asked.pool === "restrhi";
	const pools: GuestPoolOptions[] = restricted
		? [{ kind: "restricted", size: POOL_BYTES, ...(high ? { belowGpa: Number.POSITIVE_INFINITY } : {}) }]
		: [];
	const touched = new TouchedStretches();
	touched.add(0x4000000, POOL_BYTES);
	if (restricted) touched.add(high ? 0x108000000 : 0x8000000, POOL_BYTES);
	const windows = zoneWindows(header);
	for (const { gpa } of windows) touched.add(gpa, WINDOW_BYTES);
	for (let i = 0; i < asked.segments; i++) touched.add(asked.gpa + i * SEGMENT_STRIDE, Math.max(asked.bytes, 1));
	touched.add(RAM_END - 4096, 4096);
	const stretches = touched.stretches("");
	const inWindow = (gpa: Gpa) => windows.some((window) => gpa >= window.gpa && gpa < window.gpa + WINDOW_BYTES);
	const reserved = stretches.filter(
		({ gpa }) => !inWindow(gpa) && gpa !== 0x4000000 && gpa !== 0x8000000 && gpa !== 0x108000000,
	);
	const option =
		asked.pool === "noforce" || asked.pool === "noalloc" ? "noforce" : `512,1${asked.force ? ",force" : ""}`;
	const options = arena.place(stretches, {
		ram: stretches,
		platform,
		kernel: kernelOfRelease(header.release),
		swiotlb: option,
		growthSlabs: header.dynamic ? 1024 : 0,
		pools,
		reserved,
		atomicPools: asked.atomicPools !== "none",
		cipher: NO_CIPHER,
		maxDevices: 4,
		onConverter: (converter) => failPool(converter, asked.pool === "decfail"),
	});
	const guest = await Guest.create(options);
	const pool = guest.pools.find(({ kind }) => kind === (restricted ? "restricted" : "default")) ?? null;
	if ((asked.pool === "full" || asked.pool === "restrfull") && pool !== null) fill(guest, pool);
	if (asked.atomicPools === "full") fillAtomic(guest);
	const device = guest.addDevice({
		dmaMask: asked.dmaMask,
		coherentDmaMask: asked.coherentDmaMask,
		busLimit: asked.busLimit,
		coherent: asked.coherent,
		minAlignMask: asked.minAlignMask,
		...(restricted && pool !== null ? { pools: [pool] } : {}),
	});
	return { guest, device, pool, poolGpa: high ? 0x108000000 : restricted ? 0x8000000 : 0x4000000 };
}

/** Takes every slot of a pool. */
function fill(guest: Guest, pool: GuestPool): void {
	const filler = guest.engine.addDevice({ pool: pool.pool });
	while (guest.engine.instance.exports.swiotlbAlloc(filler.index, 128 * IO_TLB_SIZE, 4095, 0) >= 0);
}

function fillAtomic({ atomic }: Guest): void {
	for (const bytes of [ATOMIC_BYTES, 4096])
		while (atomic?.alloc(bytes, { device: "others", ccShared: atomic.ccShared }).ok === true);
}
