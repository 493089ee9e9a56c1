/** One piece of DMA under a policy, run on the audit build: what the host could read of it, and whether it worked. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import {
	BEYOND_MASK,
	NEEDS_SHARED,
	NO_POOL,
	OVER_MAX_MAPPING,
	SHARES_CACHE_LINE,
} from "../../assembly/layout/status.ts";
import type { Audit, Label } from "../audit/audit.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { decodeAddress } from "../coco/platform/platform.ts";
import { KernelCrash } from "../coco/rules/policy.ts";
import { TrustError } from "../coco/trust/error.ts";
import { PageState } from "../memory/ram.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import { statusName } from "../status.ts";
import { Attr, Direction, type DmaAddr, type Gpa } from "../types.ts";
import { accessCause, type Cause, crashCause, needs } from "./cause.ts";
import { type Verdict, verdictOf } from "./verdict.ts";

/** What a part of a cell is about: parts of one group answer one question. */
export type PartGroup =
	| "streaming"
	| "synced"
	| "small"
	| "above 4 GiB"
	| "large"
	| "require coherent"
	| "coherent"
	| "atomic"
	| "mmio"
	| "peer page"
	| "transition";

export interface PartSpec {
	readonly name: string;
	readonly group: PartGroup;
	readonly bytes: number;
	readonly dir: Direction;
}

/** How the device got at the part's memory. */
type Mapped = "direct" | "bounce" | "shared in place" | "allocated" | "-";

/** A part that was run. */
export interface PartRun {
	readonly how: Mapped;
	/** Pages whose state was changed for the mapping. */
	readonly conversions: number;
	readonly verdict: Verdict;
}

/** Where a part is run. */
export interface PartStage {
	readonly guest: Guest;
	readonly device: GuestDevice;
	/** Whether drivers place their buffers in memory that is shared for good. */
	readonly preShared: boolean;
	/** Whether drivers map MMIO with Attr.CcShared. */
	readonly mmioShared: boolean;
	/** Whether the device's driver sets the flag of a policy that takes its word, and whether it flips it under a mapping. */
	readonly setsFlag: boolean;
	readonly flipsFlag: boolean;
	/** Whether what the driver hands the device is secret. */
	readonly secrets: boolean;
	/** Whether an offer waits for its evidence. */
	readonly evidencePending: boolean;
	/** Whether the kernel knows DMA_ATTR_REQUIRE_COHERENT. */
	readonly knowsRequireCoherent: boolean;
	/** Whether the policy has an error in place of a bounce, for this device. */
	readonly refusesToBounce: boolean;
}

/** A peer's BAR: no RAM, and so nothing of it can leak. */
const BAR_GPA = 0xf000_0000;
/** Where a small buffer lies in its page. */
const SMALL_OFFSET = 0x640;

/**
 * Runs a part. The guest's state is afterwards what it was, but for what the policy leaks and for a change of trust.
 * @returns null where there is no such thing: a change of trust, of a device that nobody can come to trust
 */
export function runPart(stage: PartStage, spec: PartSpec): PartRun | null {
	const { guest, device } = stage;
	const { audit } = guest.engine;
	if (audit === null) throw new RangeError('a part is run on an engine of the build "engine.audit"');
	if (spec.group === "transition" && device.trust === null && !stage.setsFlag && !stage.evidencePending) return null;
	// before it runs: a part may end the trust that its data was written in
	const confidential = device.accepted && stage.secrets;
	const label = ownLabel(audit, device, stage.secrets);
	const before = countedBytes(audit, device);
	const watch = new Generations(guest, audit, device, spec.bytes);
	const hazards = guest.hazards.length;
	const conversions = device.conversions;
	let done: Done = { how: "-", cause: null };
	guest.converter.onTransition = (gpa) => strayRead(guest, gpa);
	try {
		if (spec.group === "mmio") done = mapMmio(stage, spec);
		else if (spec.group === "peer page") done = mapPeerPage(stage, spec);
		else if (spec.group === "transition")
			done = stage.setsFlag ? changeFlag(stage, spec, label) : changeTrust(stage, spec, label);
		else if (spec.group === "coherent" || spec.group === "atomic") done = useCoherent(stage, spec, label, watch);
		else done = useStreaming(stage, spec, label, watch);
	} catch (error) {
		if (!(error instanceof KernelCrash)) throw error;
		done = { how: "-", cause: crashCause(error) };
	} finally {
		audit.pen = null;
		guest.converter.onTransition = null;
	}
	watch.look(null);
	const after = countedBytes(audit, device);
	return {
		how: done.how,
		conversions: device.conversions - conversions,
		verdict: verdictOf({
			part: spec.name,
			platform: guest.platform.name,
			encoded: device.options.encoded ?? true,
			confidential,
			bytes: after.own - before.own,
			atOnceBytes: watch.atOnceBytes,
			generations: watch.count,
			hiddenBytes: after.hidden - before.hidden,
			neighbourBytes: after.others - before.others,
			cause: done.cause,
			hazards: [...new Set(guest.hazards.slice(hazards).map(({ what }) => what))],
		}),
	};
}

/** Contents of a buffer that reached shared pages one after the other, and the most that stood there at one moment. */
class Generations {
	readonly #guest: Guest;
	readonly #audit: Audit;
	readonly #device: GuestDevice;
	readonly #bufferBytes: number;
	readonly #start: number;
	#seen: number;
	#standing = 0;
	/** Of content. */
	count = 0;

	constructor(guest: Guest, audit: Audit, device: GuestDevice, bufferBytes: number) {
		this.#guest = guest;
		this.#audit = audit;
		this.#device = device;
		this.#bufferBytes = bufferBytes;
		this.#start = this.#seen = countedBytes(audit, device).own;
	}

	/** Looks after a step. @param dma where the device finds the buffer, or null: nowhere any more */
	look(dma: DmaAddr | null): void {
		const reached = countedBytes(this.#audit, this.#device).own;
		if (reached > this.#seen) this.count++;
		this.#seen = reached;
		if (dma === null) return;
		const { platform, engine } = this.#guest;
		const { gpa } = decodeAddress(platform, dma, this.#device.ruled.encoded);
		const own = (number: number): boolean => {
			const label = this.#audit.labelOf(number);
			return label?.isPrivate === true && label.owner === this.#device.dma.index;
		};
		let bytes = 0;
		for (let at = gpa; at < gpa + this.#bufferBytes; ) {
			const end = Math.min(gpa + this.#bufferBytes, at - (at % PAGE_SIZE) + PAGE_SIZE);
			if (engine.ram.pageState(at - (at % PAGE_SIZE)) === PageState.Shared)
				for (const number of this.#audit.labelsAt(at, end - at)) if (own(number)) bytes++;
			at = end;
		}
		this.#standing = Math.max(this.#standing, bytes);
	}

	/** The most that one look showed: of what went by between two looks, a buffer's bytes at most. */
	get atOnceBytes(): number {
		return Math.max(this.#standing, Math.min(this.#seen - this.#start, this.#bufferBytes));
	}
}

/** The label of a device's buffers: the truth about its being accepted, whatever a policy believes. */
export function ownLabel(audit: Audit, device: GuestDevice, secret = true): Label {
	return audit.label({ owner: device.dma.index, isPrivate: true, secret, accepted: device.accepted });
}

/** Bytes of private origin that ever reached pages of others: a device's own, and everybody else's. */
function countedBytes(audit: Audit, device: GuestDevice): { own: number; hidden: number; others: number } {
	const sum = { own: 0, hidden: 0, others: 0 };
	for (const label of audit.labels) {
		const { sharedBytes, hiddenBytes } = audit.totals(label);
		if (label.owner !== device.dma.index) sum.others += sharedBytes;
		else {
			sum.own += sharedBytes;
			sum.hidden += hiddenBytes;
		}
	}
	return sum;
}

interface Done {
	readonly how: Mapped;
	readonly cause: Cause | null;
}

/** Refusals of a record without pools, which a bounce would have mended. */
const WOULD_BOUNCE: readonly number[] = [NO_POOL, BEYOND_MASK, NEEDS_SHARED, SHARES_CACHE_LINE];

/** Why a mapping is refused, if it is. */
function refusalOf({ refusesToBounce }: PartStage, result: number): Cause | null {
	if (result >= 0) return null;
	if (refusesToBounce && WOULD_BOUNCE.includes(result)) return { what: "refuses-to-bounce" };
	return { what: "status", status: statusName(result) };
}

/** The same of a mapping, with the most that dma_max_mapping_size allows where that is what it broke. */
function mapRefusal(stage: PartStage, result: number, bytes: number): Cause | null {
	if (result !== OVER_MAX_MAPPING) return refusalOf(stage, result);
	const { device, guest } = stage;
	const last = guest.engine.ram.regions.at(-1);
	return {
		what: "over-max",
		bytes,
		maxBytes: device.maxMappingBytes(last === undefined ? 0 : last.gpa + last.bytes - 1),
	};
}

/** Bytes that are nowhere else: a part's data. */
function pattern(bytes: number, seed: number): Uint8Array {
	const data = new Uint8Array(bytes);
	for (let i = 0; i < bytes; i++) data[i] = i * 37 + (i >> 8) * 11 + seed;
	return data;
}

function useStreaming(stage: PartStage, { group, bytes, dir }: PartSpec, label: Label, watch: Generations): Done {
	const { guest, device, preShared } = stage;
	if (group === "require coherent" && !stage.knowsRequireCoherent) return { how: "-", cause: needs("attribute") };
	const { ram, audit } = guest.engine;
	const pages = Math.ceil(bytes / PAGE_SIZE);
	const page = guest.pages.alloc(pages, group === "above 4 GiB" ? {} : { belowGpa: FOUR_GIB });
	if (page < 0 || (group === "above 4 GiB" && page < FOUR_GIB)) return { how: "-", cause: needs("memory") };
	const shares = preShared && guest.converter.steps(ram.pageState(page), PageState.Shared).length > 0;
	if (shares) guest.converter.convert(page, pages * PAGE_SIZE, PageState.Shared);
	else ram.write(page, pattern(pages * PAGE_SIZE, 1));
	const gpa = page + (group === "small" ? SMALL_OFFSET : 0);
	const sent = pattern(bytes, 2);
	if (audit !== null) audit.pen = label;
	ram.write(gpa, sent);
	if (audit !== null) audit.pen = null;
	const before = device.dma.counters;
	const converted = device.conversions;
	const attrs = (shares ? Attr.CcShared : 0) | (group === "require coherent" ? Attr.RequireCoherent : 0);
	const dma = device.tryMap(gpa, bytes, dir, 0, attrs);
	let cause = mapRefusal(stage, dma, bytes);
	watch.look(dma < 0 ? null : dma);
	const bounced = device.dma.counters.bouncedMaps > before.bouncedMaps;
	const how = dma < 0 ? "-" : device.conversions > converted ? "shared in place" : bounced ? "bounce" : "direct";
	if (dma >= 0) {
		const answer = pattern(bytes, 3);
		if (stage.flipsFlag) device.setNoBounce(false);
		if (dir !== Direction.FromDevice) cause = deviceReads(stage, dma, sent);
		if (dir !== Direction.ToDevice) cause ??= deviceWrites(stage, dma, answer);
		watch.look(dma);
		const arrived = () => equal(ram.read(gpa, bytes), answer);
		if (group === "synced" && cause === null) {
			device.syncForCpu(dma, bytes, dir);
			if (!arrived()) cause = { what: "sync-lost" };
		}
		device.unmap(dma, bytes, dir, attrs);
		if (stage.flipsFlag) device.setNoBounce(true);
		if (dir !== Direction.ToDevice && cause === null && !arrived()) cause = { what: "write-lost" };
	}
	// shared for good: nobody else gets these pages, and no other part what stands in them
	if (!shares) guest.pages.free(page, pages);
	return { how, cause };
}

function useCoherent(stage: PartStage, { group, bytes }: PartSpec, label: Label, watch: Generations): Done {
	const { guest, device } = stage;
	const { ram, audit } = guest.engine;
	const atomic = group === "atomic";
	const got = device.allocCoherent(bytes, { atomic });
	if (!got.ok) return { how: "-", cause: { what: "status", status: got.status } };
	const sent = pattern(bytes, 4);
	if (audit !== null) audit.pen = label;
	ram.write(got.gpa, sent);
	if (audit !== null) audit.pen = null;
	watch.look(got.dma);
	const cause = deviceReads(stage, got.dma, sent) ?? deviceWrites(stage, got.dma, pattern(bytes, 5));
	watch.look(got.dma);
	device.freeCoherent(got, { atomic });
	return { how: "allocated", cause };
}

/** Some other code of the kernel reads a word across the end of the page before one in transition (load_unaligned_zeropad). */
function strayRead({ converter, engine }: Guest, gpa: Gpa): void {
	const before = gpa - PAGE_SIZE;
	if (before < 0 || engine.ram.pageState(before) > PageState.Private) return;
	const { outcome, exception } = converter.strayRead(gpa - 4, 8);
	if (outcome === "unhandled")
		throw new KernelCrash(
			"load_unaligned_zeropad",
			`${exception} in a page under conversion, with nobody to fix it up`,
		);
}

/** The host stops an interface under a mapping, and the guest accepts it again; or evidence for an offer is accepted under one. */
function changeTrust(stage: PartStage, { bytes, dir }: PartSpec, label: Label): Done {
	const { guest, device } = stage;
	const { trust } = device;
	const { ram, audit } = guest.engine;
	const gpa = guest.pages.alloc(1, { belowGpa: FOUR_GIB });
	if (audit !== null) audit.pen = label;
	ram.write(gpa, pattern(bytes, 6));
	if (audit !== null) audit.pen = null;
	const dma = device.tryMap(gpa, bytes, dir);
	let cause = refusalOf(stage, dma);
	if (cause !== null) return { how: "-", cause };
	try {
		if (trust === null) device.acceptEvidence();
		else {
			trust.stop();
			trust.lock();
			trust.collectEvidence();
			trust.accept();
			trust.start();
		}
	} catch (error) {
		if (!(error instanceof TrustError)) throw error;
		cause = { what: "transition", status: error.status };
	}
	device.unmap(dma, bytes, dir);
	guest.pages.free(gpa, 1);
	return { how: "-", cause };
}

/** The driver takes its flag back under a mapping, lets the device work, and sets it again. */
function changeFlag(stage: PartStage, { bytes, dir }: PartSpec, label: Label): Done {
	const { guest, device } = stage;
	const { ram, audit } = guest.engine;
	const gpa = guest.pages.alloc(1, { belowGpa: FOUR_GIB });
	const sent = pattern(bytes, 6);
	if (audit !== null) audit.pen = label;
	ram.write(gpa, sent);
	if (audit !== null) audit.pen = null;
	const dma = device.tryMap(gpa, bytes, dir);
	let cause = refusalOf(stage, dma);
	device.setNoBounce(false);
	if (dma >= 0) {
		cause = deviceReads(stage, dma, sent);
		device.unmap(dma, bytes, dir);
	}
	device.setNoBounce(true);
	guest.pages.free(gpa, 1);
	return { how: "-", cause };
}

function mapMmio(stage: PartStage, { bytes, dir }: PartSpec): Done {
	const { guest, device, mmioShared } = stage;
	const attrs = Attr.Mmio | (mmioShared ? Attr.CcShared : 0);
	const dma = device.tryMap(BAR_GPA, bytes, dir, 0, attrs);
	if (dma < 0) return { how: "-", cause: refusalOf(stage, dma) };
	device.unmap(dma, bytes, dir, Attr.Mmio);
	const isPrivate = decodeAddress(guest.platform, dma).form === "private";
	// the peer is not trusted: its registers answer to shared addresses only
	return { how: "direct", cause: isPrivate ? { what: "private-form" } : null };
}

/** A page of a peer's memory in a list, as pci_p2pdma gives it: mapped as memory is, where the host bridge forwards it. */
function mapPeerPage(stage: PartStage, { bytes, dir }: PartSpec): Done {
	const { device, guest } = stage;
	const before = device.dma.counters.bouncedMaps;
	// stands for the peer's memory: what is in it is nobody's of the guest
	const gpa = guest.pages.alloc(1, { belowGpa: FOUR_GIB });
	guest.engine.audit?.paint(gpa, bytes, null);
	const dma = device.tryMapPeer(gpa, bytes, dir, "host bridge");
	if (dma < 0) {
		guest.pages.free(gpa, 1);
		return { how: "-", cause: refusalOf(stage, dma) };
	}
	const how = device.dma.counters.bouncedMaps > before ? "bounce" : "direct";
	device.unmap(dma, bytes, dir);
	guest.pages.free(gpa, 1);
	const isPrivate = decodeAddress(guest.platform, dma, device.ruled.encoded).form === "private";
	return { how, cause: how === "direct" && isPrivate ? { what: "private-form" } : null };
}

/** @returns what the device met in place of the bytes that were sent, or null */
function deviceReads({ device, guest }: PartStage, dma: DmaAddr, sent: Uint8Array): Cause | null {
	const { violations } = guest.parties;
	const before = violations.total;
	try {
		const got = device.read(dma, sent.length);
		const last = violations.total > before ? violations.list.at(-1) : undefined;
		if (last !== undefined) return { what: "device-gets", result: last.result };
		return equal(got, sent) ? null : { what: "contents-lost" };
	} catch (error) {
		return accessCause(error);
	}
}

/** @returns what the device's write met, or null */
function deviceWrites({ device, guest }: PartStage, dma: DmaAddr, data: Uint8Array): Cause | null {
	const before = guest.parties.violations.total;
	try {
		device.write(dma, data);
		return guest.parties.violations.total > before ? { what: "write-corrupts" } : null;
	} catch (error) {
		return accessCause(error);
	}
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
