/** What a guest answers to the question of a `dma-decisions` case, field by field as the recordings have them. */
import { NOT_COHERENT, PEER_UNREACHABLE } from "../../../assembly/layout/status.ts";
import type { PeerReach } from "../../coco/guest/device.ts";
import type { CoherentAllocation, CoherentBuffer } from "../../coco/memory/coherent.ts";
import { decodeAddress } from "../../coco/platform/platform.ts";
import type { ZoneName } from "../../coco/rules/kernel.ts";
import { asksSwiotlb, mapMessages } from "../../coco/rules/message.ts";
import { PageState } from "../../memory/ram.ts";
import { Attr, type DmaAddr, type Gpa } from "../../types.ts";
import { type BootedCase, failConversion, PEER, POOL_BYTES, peerGpa, RAM_END, zoneWindows } from "./guest.ts";
import { type DecisionCase, type DecisionField, type DecisionHeader, SEGMENT_STRIDE } from "./lines.ts";

const ATTR_BITS = {
	SKIP_CPU_SYNC: Attr.SkipCpuSync,
	MMIO: Attr.Mmio,
	REQUIRE_COHERENT: Attr.RequireCoherent,
	CC_SHARED: Attr.CcShared,
	NO_WARN: 0,
	NO_KERNEL_MAPPING: 0,
	ALLOC_CC_SHARED: 0,
} as const;

const MESSAGE_CLASSES = [
	["Failed to decrypt default", "DECRYPT-DEFAULT"],
	["Failed to decrypt restricted", "DECRYPT-RESTRICTED"],
	["software IO TLB: Failed to allocate", "INIT-ALLOC"],
	["DMA pool exhausted", "ATOMIC-EXHAUSTED"],
	["Failed to get suitable pool", "ATOMIC-NO-SUITABLE"],
	["leaking DMA memory that can't be decrypted", "LEAK-DEC"],
	["leaking DMA memory that can't be re-encrypted", "LEAK-ENC"],
	["Cannot allocate pages from non page-aligned", "TLB-UNALIGNED"],
] as const;

/** The class of a message that the recordings tell, or none. */
function classOf(message: string): string[] {
	return MESSAGE_CLASSES.filter(([start]) => message.startsWith(start)).map(([, name]) => name);
}

function classes(names: readonly string[]): string {
	return names.join(",") || "-";
}

interface Counted {
	readonly bytes: number;
	readonly cacheCalls: number;
}

function copied({ bytes, cacheCalls }: Counted): string {
	return `${bytes}/${cacheCalls}`;
}

/** How the recordings call the ways in which a driver reaches a coherent buffer. */
const VA_OF = { linear: "lin", remapped: "remap", pages: "page", not: "cookie" } as const;

/** How a list's last segment is reached. */
const REACHED: Readonly<Record<DecisionCase["lastSegment"], PeerReach>> = {
	host: "host bridge",
	bus: { busOffset: PEER.busOffset },
	no: "no",
	"-": "no",
};

/** What dma_map_sg answers for a status; others are -EIO. */
const ERRNO_OF: Readonly<Record<number, number>> = { [NOT_COHERENT]: -95, [PEER_UNREACHABLE]: -121 };

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
		const { device, guest } = this.#booted;
		if (device.attachError !== null) this.#add("ri", device.attachError);
		this.#add("bw", classes(guest.messages.flatMap(classOf)));
		if (op === "max") this.#max();
		else if (op === "sg") this.#sg();
		else if (op === "map" || op === "res") this.#map(op === "res" ? this.#attrs | Attr.Mmio : this.#attrs);
		else this.#alloc();
		return this.#fields;
	}

	#add(name: string, value: string | number): void {
		this.#fields.push([name, String(value)]);
	}

	get #used(): number {
		return this.#booted.pool?.pool.used ?? 0;
	}

	/** A gpa of a pool's, an atomic pool's or a transient pool's memory as the recording has it. */
	#recorded(gpa: Gpa): Gpa {
		const { guest, pool, poolGpa } = this.#booted;
		const start = pool?.pool.start ?? 0;
		if (gpa >= start && gpa < start + POOL_BYTES) return gpa - start + poolGpa;
		const zones = [
			...(guest.atomic?.pools ?? []).flatMap(({ zone, ranges }) => ranges.map((range) => ({ ...range, zone }))),
			...(pool?.growing?.transients ?? []),
		];
		const found = zones.find((range) => gpa >= range.gpa && gpa < range.gpa + range.bytes);
		return found === undefined ? gpa : gpa - found.gpa + this.#window(found.zone);
	}

	/** Where the recording's pages of a zone begin. */
	#window(zone: ZoneName): Gpa {
		return zoneWindows(this.#header).find((window) => window.zone === zone)?.gpa ?? 0;
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
		const state = guest.converter.lastState(gpa);
		return state === PageState.Shared ? "shared" : state === PageState.Private ? "private" : "leaked";
	}

	/** Classes of what one map logged. @param since guest.messages before it */
	#messages(dma: DmaAddr, bounced: boolean, mmio: boolean, since: number): string[] {
		const { guest } = this.#booted;
		const noWarn = this.#asked.attrs.has("NO_WARN");
		const names: string[] = mapMessages(guest, { dma, bounced, mmio, noWarn });
		const first = names[0] === "ENC-ACTIVE" ? names.splice(0, 1) : [];
		const active = this.#encWarned ? [] : first;
		this.#encWarned ||= first.length > 0;
		return [...active, ...guest.messages.slice(since).flatMap(classOf), ...names];
	}

	#max(): void {
		const { device } = this.#booted;
		const last = RAM_END - 1;
		const max = device.maxMappingBytes(last);
		this.#add("max", max === Number.POSITIVE_INFINITY ? "unlimited" : max);
		this.#add("reqmask", device.requiredMask(last).toString(16));
		this.#add("lim", device.addressingLimited(last) ? 1 : 0);
		this.#add("w", "-");
	}

	#map(attrs: number): void {
		const { device, guest } = this.#booted;
		const { gpa, bytes, dir } = this.#asked;
		const mmio = (attrs & Attr.Mmio) !== 0;
		if (this.#asked.decryptFails) failConversion(guest.converter, "toShared");
		const said = guest.messages.length;
		const converted = guest.converter.pagesConverted;
		const before = device.dma.counters;
		const dma = device.tryMap(gpa, bytes, dir, 0, attrs);
		const after = device.dma.counters;
		const bounced = after.bouncedMaps > before.bouncedMaps;
		const traced = asksSwiotlb({ dma, bounced });
		this.#add("r", dma < 0 ? "err" : bounced ? "bounce" : "direct");
		if (dma >= 0) {
			const tlb = bounced ? this.#gpaOf(dma) : gpa;
			this.#add("dma", this.#recordedDma(dma, tlb));
			if (bounced) this.#add("tlb", this.#recorded(tlb).toString(16));
			if (bounced && this.#header.dynamic) this.#add("pool", this.#poolKind(tlb));
			this.#add("pg", mmio ? "mmio" : this.#state(tlb));
		}
		this.#add("tr", traced ? 1 : 0);
		const aliased = this.#isAliased();
		this.#add("cin", aliased ? 0 : after.bytesIn - before.bytesIn);
		this.#add("cm", after.cacheOps - before.cacheOps);
		this.#add("used", this.#used);
		if (this.#header.dynamic) {
			this.#add("grow", this.#booted.pool?.growing?.growthQueued ? 1 : 0);
			this.#add("dec", guest.converter.pagesConverted.toShared - converted.toShared);
		}
		this.#add("w", classes(this.#messages(dma, bounced, mmio, said)));
		if (dma < 0) return;
		const tlb = bounced ? this.#gpaOf(dma) : gpa;
		const ended = guest.messages.length;
		if (this.#asked.encryptFails) failConversion(guest.converter, "toPrivate");
		const leaked = guest.converter.leakedPages;
		let unseen = 0;
		if (!mmio) {
			this.#add("sc", copied(this.#counted(() => device.dma.syncForCpu(dma, bytes, dir))));
			const given = this.#counted(() => device.dma.syncForDevice(dma, bytes, dir));
			this.#add("sd", copied(aliased ? { ...given, bytes: 0 } : given));
			if (aliased) unseen = given.bytes;
		}
		const done = this.#counted(() => device.unmap(dma, bytes, dir, attrs));
		this.#add("un", copied({ ...done, bytes: done.bytes + unseen }));
		this.#add("u2", this.#used);
		if (this.#header.dynamic) {
			this.#booted.pool?.growing?.endTransients();
			this.#add("enc", guest.converter.pagesConverted.toPrivate - converted.toPrivate);
			this.#add("leak", guest.converter.leakedPages - leaked);
			// what was never converted is private
			this.#add("tpg", mmio ? (guest.platform.hostRead === "plain" ? "plain" : "private") : this.#state(tlb));
		}
		this.#add("uw", classes(guest.messages.slice(ended).flatMap(classOf)));
	}

	#poolKind(tlb: Gpa): string {
		const { pool } = this.#booted;
		if (pool === null || (tlb >= pool.pool.start && tlb < pool.pool.start + POOL_BYTES)) return "first";
		return pool.growing?.transients.some(({ gpa, bytes }) => tlb >= gpa && tlb < gpa + bytes) === true
			? "transient"
			: "grown";
	}

	/**
	 * Whether the case's transient pool is memory of an atomic pool that is reached through an alias. The recordings tell a
	 * copy into slots by their linear address: through an alias they count it as one out of them, at the unmap.
	 */
	#isAliased(): boolean {
		const { guest, pool } = this.#booted;
		if (!guest.platform.architecture.remaps) return false;
		const ranges = guest.atomic?.pools.flatMap((one) => one.ranges) ?? [];
		const isAtomic = (gpa: Gpa) => ranges.some((range) => gpa >= range.gpa && gpa < range.gpa + range.bytes);
		return pool?.growing?.transients.some(({ gpa }) => isAtomic(gpa)) === true;
	}

	/** What a sync or an end copied, in both directions, and its cache calls. */
	#counted(call: () => void): Counted {
		const { dma } = this.#booted.device;
		const before = dma.counters;
		call();
		const after = dma.counters;
		const bytes = after.bytesIn + after.bytesBack - before.bytesIn - before.bytesBack;
		return { bytes, cacheCalls: after.cacheOps - before.cacheOps };
	}

	#sg(): void {
		const { device, guest } = this.#booted;
		const { gpa, bytes, dir, segments, lastSegment } = this.#asked;
		const before = device.dma.counters;
		const mapped: { dma: DmaAddr; how: "direct" | "bounce" | "bus"; gpa: Gpa; isPeer: boolean }[] = [];
		let failed = 0;
		let traced = 0;
		const names: string[] = [];
		for (let i = 0; i < segments && failed === 0; i++) {
			const isLast = lastSegment !== "-" && i === segments - 1;
			// a list that lies in device memory is such pages all along
			const isPeer = isLast || (this.#attrs & Attr.Mmio) !== 0;
			const at = isLast ? peerGpa(this.#asked) : gpa + i * SEGMENT_STRIDE;
			const said = guest.messages.length;
			const bounces = device.dma.counters.bouncedMaps;
			const dma = isPeer
				? device.tryMapPeer(at, bytes, dir, REACHED[lastSegment], this.#attrs)
				: device.tryMap(at, bytes, dir, 0, this.#attrs);
			const bounced = device.dma.counters.bouncedMaps > bounces;
			if (asksSwiotlb({ dma, bounced })) traced++;
			names.push(...this.#messages(dma, bounced, false, said));
			if (dma < 0) failed = dma;
			else
				mapped.push({
					dma,
					how: bounced ? "bounce" : isPeer && lastSegment === "bus" ? "bus" : "direct",
					gpa: at,
					isPeer,
				});
		}
		if (failed < 0) {
			for (const { dma, how } of mapped)
				if (how !== "bus") device.unmap(dma, bytes, dir, this.#attrs | Attr.SkipCpuSync);
			this.#add("n", ERRNO_OF[failed] ?? -5);
		} else {
			this.#add("n", segments);
			for (const segment of mapped) this.#segment(segment);
		}
		const after = device.dma.counters;
		this.#add("tr", traced);
		this.#add("cin", after.bytesIn - before.bytesIn);
		this.#add("cout", after.bytesBack - before.bytesBack);
		this.#add("cm", after.cacheOps - before.cacheOps);
		this.#add("used", this.#used);
		this.#add("w", classes(names));
		if (failed < 0) return;
		const ended = guest.messages.length;
		const done = this.#counted(() => {
			for (const { dma, how } of mapped) if (how !== "bus") device.unmap(dma, bytes, dir, this.#attrs);
		});
		this.#add("un", copied(done));
		this.#add("u2", this.#used);
		this.#add("uw", classes(guest.messages.slice(ended).flatMap(classOf)));
	}

	#segment({
		dma,
		how,
		gpa,
		isPeer,
	}: {
		dma: DmaAddr;
		how: "direct" | "bounce" | "bus";
		gpa: Gpa;
		isPeer: boolean;
	}): void {
		this.#add("r", how);
		if (how === "bus") {
			this.#add("dma", dma.toString(16));
			return;
		}
		const tlb = how === "bounce" ? this.#gpaOf(dma) : gpa;
		this.#add("dma", this.#recordedDma(dma, tlb));
		if (how === "bounce") this.#add("tlb", this.#recorded(tlb).toString(16));
		this.#add("pg", isPeer && how === "direct" ? "mmio" : this.#state(tlb));
	}

	#alloc(): void {
		const { guest, device } = this.#booted;
		const { op, attrs, bytes, decryptFails, encryptFails } = this.#asked;
		const { converter } = guest;
		const atomic = op === "alloca" || op === "pagesa";
		const request = {
			atomic,
			asPages: op === "pages" || op === "pagesa",
			noKernelMapping: attrs.has("NO_KERNEL_MAPPING"),
			ccShared: attrs.has("CC_SHARED") || attrs.has("ALLOC_CC_SHARED"),
		};
		if (decryptFails) failConversion(converter, "toShared");
		const before = converter.pagesConverted;
		const leaked = converter.leakedPages;
		const got = device.allocCoherent(bytes, request);
		const now = converter.pagesConverted;
		this.#add("r", got.ok ? "ok" : "null");
		if (got.ok) this.#buffer(got);
		this.#add("dec", now.toShared - before.toShared);
		this.#add("redec", now.again - before.again);
		this.#add("enc", now.toPrivate - before.toPrivate);
		this.#add("leak", converter.leakedPages - leaked);
		this.#add("used", this.#used);
		this.#add("w", got.ok || !got.logged || this.#isQuiet(got.status) ? "-" : classes(classOf(got.message)));
		if (!got.ok) return;
		if (encryptFails) failConversion(converter, "toPrivate");
		const leakedThen = converter.leakedPages;
		const freed = device.freeCoherent(got, { atomic });
		this.#add("fenc", converter.pagesConverted.toPrivate - now.toPrivate);
		this.#add("fpg", this.#state(got.gpa));
		this.#add("fleak", converter.leakedPages - leakedThen);
		this.#add("fused", this.#used);
		this.#add("fw", freed.ok ? "-" : classes(classOf(freed.message)));
	}

	/** DMA_ATTR_NO_WARN silences one of the messages of the atomic pools. */
	#isQuiet(status: (CoherentAllocation & { ok: false })["status"]): boolean {
		return status === "POOL_EXHAUSTED" && this.#asked.attrs.has("NO_WARN");
	}

	#buffer({ source, gpa, dma, zone, mapped }: CoherentBuffer): void {
		const fromPages = source === "pages" || source === "cookie";
		const at = fromPages && zone !== null ? this.#window(zone) + (gpa % 4096) : this.#recorded(gpa);
		this.#add("src", source === "slots" ? "slot" : fromPages ? "pages" : source);
		this.#add("dma", (BigInt(dma) - BigInt(gpa) + BigInt(at)).toString(16));
		this.#add("phys", at.toString(16));
		this.#add("pg", this.#state(gpa));
		this.#add("va", VA_OF[mapped]);
		if (mapped === "remapped" && source !== "atomic")
			this.#add("prot", this.#booted.device.mapRules.needsShared ? "shared" : "private");
	}
}
