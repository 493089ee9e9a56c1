/** What a guest answers to the question of a `dma-decisions` case, field by field as the recordings have them. */
import {
	BEYOND_MASK,
	NEEDS_SHARED,
	NEEDS_TRANSIENT,
	NO_POOL,
	NOT_COHERENT,
	OVER_MAX_MAPPING,
	POOL_FULL,
	POOL_STATE,
	SHARES_CACHE_LINE,
	SLOTS_BEYOND_MASK,
	UNUSABLE_POOL,
} from "../../assembly/layout/status.ts";
import type { CoherentAllocation } from "../coco/memory/coherent.ts";
import { decodeAddress } from "../coco/platform/platform.ts";
import { PageState } from "../memory/ram.ts";
import { Attr, type DmaAddr, type Gpa } from "../types.ts";
import { type BootedCase, failConversion, POOL_BYTES } from "./decision-guest.ts";
import { type DecisionCase, type DecisionField, type DecisionHeader, SEGMENT_STRIDE } from "./decision-lines.ts";

const ATTR_BITS = {
	SKIP_CPU_SYNC: Attr.SkipCpuSync,
	MMIO: Attr.Mmio,
	REQUIRE_COHERENT: Attr.RequireCoherent,
	CC_SHARED: Attr.CcShared,
	NO_WARN: 0,
	NO_KERNEL_MAPPING: 0,
	ALLOC_CC_SHARED: 0,
} as const;

/** Refusals behind swiotlb_map's tracepoint, and those that end in a message of a class. */
const FULL: readonly number[] = [POOL_FULL, OVER_MAX_MAPPING, NEEDS_TRANSIENT, UNUSABLE_POOL];
const TRACED: readonly number[] = [...FULL, NO_POOL, POOL_STATE, SLOTS_BEYOND_MASK];
const OVERFLOWS: readonly number[] = [BEYOND_MASK, NEEDS_SHARED, SHARES_CACHE_LINE];

/** One case under way. */
export class DecisionAnswers {
	readonly #header: DecisionHeader;
	readonly #asked: DecisionCase;
	readonly #booted: BootedCase;
	readonly #fields: DecisionField[] = [];
	#attrs: number;
	#encWarned = false;

	constructor(header: DecisionHeader, asked: DecisionCase, booted: BootedCase) {
		this.#header = header;
		this.#asked = asked;
		this.#booted = booted;
		this.#attrs = [...asked.attrs].reduce((bits, name) => bits | ATTR_BITS[name], 0);
	}

	/** Asks the question. @returns every field of the answer */
	run(): readonly DecisionField[] {
		const { op } = this.#asked;
		this.#add("bw", this.#bootMessages());
		if (op === "max") this.#max();
		else if (op === "sg") this.#sg();
		else if (op === "map" || op === "res") this.#map(op === "res" ? this.#attrs | Attr.Mmio : this.#attrs);
		else this.#alloc();
		return this.#fields;
	}

	#add(name: string, value: string | number): void {
		this.#fields.push([name, String(value)]);
	}

	#bootMessages(): string {
		const classes = this.#booted.guest.messages.flatMap((text) =>
			text.startsWith("Failed to decrypt default")
				? ["DECRYPT-DEFAULT"]
				: text.startsWith("Failed to decrypt restricted")
					? ["DECRYPT-RESTRICTED"]
					: [],
		);
		return classes.join(",") || "-";
	}

	get #used(): number {
		return this.#booted.pool?.pool.used ?? 0;
	}

	/** A gpa of the pool as the recording has it. */
	#recorded(gpa: Gpa): Gpa {
		const { pool, poolGpa } = this.#booted;
		const start = pool?.pool.start ?? 0;
		return gpa >= start && gpa < start + POOL_BYTES ? gpa - start + poolGpa : gpa;
	}

	/** As #recorded, for a DMA address of a gpa. */
	#recordedDma(dma: DmaAddr, gpa: Gpa): string {
		return (dma - gpa + this.#recorded(gpa)).toString(16);
	}

	#gpaOf(dma: DmaAddr): Gpa {
		return decodeAddress(this.#booted.guest.platform, dma).gpa;
	}

	#state(gpa: Gpa): string {
		const { guest } = this.#booted;
		if (guest.platform.hostRead === "plain") return "plain";
		const state = guest.engine.ram.pageState(gpa);
		return state === PageState.Shared ? "shared" : state === PageState.Private ? "private" : "leaked";
	}

	#messages(status: number, traced: boolean): string[] {
		const { platform } = this.#booted.guest;
		const classes: string[] = [];
		if (status === NO_POOL) return ["NO-POOL"];
		if (traced && platform.memEncrypt && !this.#encWarned) {
			classes.push("ENC-ACTIVE");
			this.#encWarned = true;
		}
		if (FULL.includes(status) && !this.#asked.attrs.has("NO_WARN")) classes.push("FULL");
		if (OVERFLOWS.includes(status)) classes.push("DMA-OVERFLOW");
		if (status === SLOTS_BEYOND_MASK) classes.push("TLB-OVERFLOW");
		return classes;
	}

	#max(): void {
		const { device } = this.#booted;
		const max = device.dma.maxMappingBytes(17 * 2 ** 30 - 1);
		this.#add("max", max === Number.POSITIVE_INFINITY ? "unlimited" : max);
		this.#add("reqmask", "0");
		this.#add("lim", "0");
		this.#add("w", "-");
	}

	#map(attrs: number): void {
		const { device, guest } = this.#booted;
		const { gpa, bytes, dir } = this.#asked;
		const before = device.dma.counters;
		const dma = device.tryMap(gpa, bytes, dir, 0, attrs);
		const after = device.dma.counters;
		const bounced = after.bouncedMaps > before.bouncedMaps;
		const traced = bounced || TRACED.includes(dma);
		this.#add("r", dma < 0 ? "err" : bounced ? "bounce" : "direct");
		if (dma >= 0) {
			const tlb = bounced ? this.#gpaOf(dma) : gpa;
			this.#add("dma", this.#recordedDma(dma, tlb));
			if (bounced) this.#add("tlb", this.#recorded(tlb).toString(16));
			if (bounced && this.#header.dynamic) this.#add("pool", this.#poolKind(tlb));
			this.#add("pg", (attrs & Attr.Mmio) !== 0 ? "mmio" : this.#state(tlb));
		}
		this.#add("tr", traced ? 1 : 0);
		this.#add("cin", after.bytesIn - before.bytesIn);
		this.#add("cm", after.cacheOps - before.cacheOps);
		this.#add("used", this.#used);
		if (this.#header.dynamic) {
			this.#add("grow", this.#booted.pool?.growing?.growthQueued ? 1 : 0);
			this.#add("dec", 0);
		}
		this.#add("w", this.#messages(dma, traced).join(",") || "-");
		if (dma < 0) return;
		const tlb = bounced ? this.#gpaOf(dma) : gpa;
		if ((attrs & Attr.Mmio) === 0) {
			this.#add(
				"sc",
				this.#counted(() => device.dma.syncForCpu(dma, bytes, dir)),
			);
			this.#add(
				"sd",
				this.#counted(() => device.dma.syncForDevice(dma, bytes, dir)),
			);
		}
		this.#add(
			"un",
			this.#counted(() => device.unmap(dma, bytes, dir, attrs)),
		);
		this.#add("u2", this.#used);
		if (this.#header.dynamic) {
			guest.tick();
			this.#add("enc", 0);
			this.#add("leak", 0);
			this.#add("tpg", this.#state(tlb));
		}
		this.#add("uw", "-");
	}

	#poolKind(tlb: Gpa): string {
		const { pool } = this.#booted;
		if (pool === null || (tlb >= pool.pool.start && tlb < pool.pool.start + POOL_BYTES)) return "first";
		return pool.growing?.transients.some((start) => tlb >= start) === true ? "transient" : "grown";
	}

	/** Bytes copied and cache calls of a sync or an end. */
	#counted(call: () => void): string {
		const { dma } = this.#booted.device;
		const before = dma.counters;
		call();
		const after = dma.counters;
		const copied = after.bytesIn + after.bytesBack - before.bytesIn - before.bytesBack;
		return `${copied}/${after.cacheOps - before.cacheOps}`;
	}

	#sg(): void {
		const { device } = this.#booted;
		const { gpa, bytes, dir, segments } = this.#asked;
		const list = Array.from({ length: segments }, (_, i) => ({ gpa: gpa + i * SEGMENT_STRIDE, bytes }));
		const before = device.dma.counters;
		const mapped: { dma: DmaAddr; tlb: Gpa | null; gpa: Gpa; bytes: number }[] = [];
		let failed = 0;
		let traced = 0;
		const classes: string[] = [];
		for (const segment of list) {
			const one = device.dma.counters;
			const dma = device.tryMap(segment.gpa, segment.bytes, dir, 0, this.#attrs);
			const now = device.dma.counters;
			const bounced = now.bouncedMaps > one.bouncedMaps;
			const trace = bounced || TRACED.includes(dma);
			if (trace) traced++;
			classes.push(...this.#messages(dma, trace));
			if (dma < 0) {
				failed = dma;
				break;
			}
			mapped.push({ dma, tlb: bounced ? this.#gpaOf(dma) : null, ...segment });
		}
		if (failed < 0) {
			for (const { dma } of mapped) device.unmap(dma, bytes, dir, this.#attrs | Attr.SkipCpuSync);
			this.#add("n", failed === NOT_COHERENT ? -95 : -5);
		} else {
			this.#add("n", segments);
			for (const { dma, tlb, gpa: at } of mapped) {
				this.#add("r", tlb === null ? "direct" : "bounce");
				this.#add("dma", this.#recordedDma(dma, tlb ?? at));
				if (tlb !== null) this.#add("tlb", this.#recorded(tlb).toString(16));
				this.#add("pg", this.#state(tlb ?? at));
			}
		}
		const after = device.dma.counters;
		this.#add("tr", traced);
		this.#add("cin", after.bytesIn - before.bytesIn);
		this.#add("cout", after.bytesBack - before.bytesBack);
		this.#add("cm", after.cacheOps - before.cacheOps);
		this.#add("used", this.#used);
		this.#add("w", classes.join(",") || "-");
		if (failed < 0) return;
		this.#add(
			"un",
			this.#counted(() => {
				for (const { dma } of mapped) device.unmap(dma, bytes, dir, this.#attrs);
			}),
		);
		this.#add("u2", this.#used);
		this.#add("uw", "-");
	}

	#alloc(): void {
		const { guest, device } = this.#booted;
		const { op, attrs, bytes, decryptFails, encryptFails } = this.#asked;
		const { ram } = guest.engine;
		const atomic = op === "alloca" || op === "pagesa";
		const request = { atomic, noKernelMapping: attrs.has("NO_KERNEL_MAPPING") };
		if (decryptFails) failConversion(guest, "toShared");
		const shared = ram.pagesInState(PageState.Shared);
		const leaked = ram.pagesInState(PageState.Leaked);
		const got = device.allocCoherent(bytes, request);
		this.#add("r", got.ok ? "ok" : "null");
		if (got.ok) {
			this.#add("src", got.source === "slots" ? "slot" : got.source === "cookie" ? "pages" : got.source);
			this.#add("dma", this.#recordedDma(got.dma, got.gpa));
			this.#add("phys", this.#recorded(got.gpa).toString(16));
			this.#add("pg", this.#state(got.gpa));
			const remap = !this.#asked.coherent && got.source !== "atomic";
			const page = op === "pages" || op === "pagesa";
			this.#add("va", page ? "page" : got.source === "cookie" ? "cookie" : remap ? "remap" : "lin");
			if (remap && !page && got.source !== "cookie")
				this.#add("prot", device.mapRules.needsShared ? "shared" : "private");
		}
		this.#add("dec", Math.max(0, ram.pagesInState(PageState.Shared) - shared));
		this.#add("redec", 0);
		this.#add("enc", 0);
		this.#add("leak", ram.pagesInState(PageState.Leaked) - leaked);
		this.#add("used", this.#used);
		this.#add("w", got.ok ? "-" : this.#allocMessage(got));
		if (!got.ok) return;
		if (encryptFails) failConversion(guest, "toPrivate");
		const sharedThen = ram.pagesInState(PageState.Shared);
		const leakedThen = ram.pagesInState(PageState.Leaked);
		const freed = device.freeCoherent(got, { atomic });
		const leak = ram.pagesInState(PageState.Leaked) - leakedThen;
		this.#add("fenc", leak > 0 ? 0 : sharedThen - ram.pagesInState(PageState.Shared));
		this.#add("fpg", this.#state(got.gpa));
		this.#add("fleak", leak);
		this.#add("fused", this.#used);
		this.#add("fw", freed.ok ? "-" : "LEAK-ENC");
	}

	#allocMessage(got: CoherentAllocation & { ok: false }): string {
		if (got.status === "NOT_DECRYPTED") return this.#asked.op.startsWith("pages") ? "LEAK-DEC" : "-";
		if (this.#asked.attrs.has("NO_WARN") && got.status === "POOL_EXHAUSTED") return "-";
		if (got.status === "POOL_EXHAUSTED") return "ATOMIC-EXHAUSTED";
		if (got.status === "NO_SUITABLE_POOL" || got.status === "NO_ATOMIC_POOLS") return "ATOMIC-NO-SUITABLE";
		return "-";
	}
}
