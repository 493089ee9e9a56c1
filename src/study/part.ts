/** One piece of DMA under a policy, run on the audit build: what the host could read of it, and whether it worked. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
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
import { accessCause, type Cause, crashCause } from "./cause.ts";
import { type Verdict, verdictOf } from "./verdict.ts";

/** What a part of a cell is about: parts of one group answer one question. */
export type PartGroup = "streaming" | "small" | "above 4 GiB" | "coherent" | "atomic" | "mmio" | "transition";

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
	if (spec.group === "transition" && device.trust === null) return null;
	// before it runs: a part may end the trust that its data was written in
	const confidential = device.accepted;
	const label = ownLabel(audit, device);
	const before = countedBytes(audit, device);
	const hazards = guest.hazards.length;
	const conversions = device.conversions;
	let done: Done = { how: "-", cause: null };
	guest.converter.onTransition = (gpa) => strayRead(guest, gpa);
	try {
		if (spec.group === "mmio") done = mapMmio(stage, spec);
		else if (spec.group === "transition") done = changeTrust(stage, spec, label);
		else if (spec.group === "coherent" || spec.group === "atomic") done = useCoherent(stage, spec, label);
		else done = useStreaming(stage, spec, label);
	} catch (error) {
		if (!(error instanceof KernelCrash)) throw error;
		done = { how: "-", cause: crashCause(error) };
	} finally {
		audit.pen = null;
		guest.converter.onTransition = null;
	}
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
			hiddenBytes: after.hidden - before.hidden,
			neighbourBytes: after.others - before.others,
			cause: done.cause,
			hazards: [...new Set(guest.hazards.slice(hazards).map(({ what }) => what))],
		}),
	};
}

/** The label of a device's buffers: the truth about its being accepted, whatever a policy believes. */
export function ownLabel(audit: Audit, device: GuestDevice): Label {
	return audit.label({ owner: device.dma.index, isPrivate: true, secret: true, accepted: device.accepted });
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

/** A call's status, if it is one. */
function statusCause(result: number): Cause | null {
	return result < 0 ? { what: "status", status: statusName(result) } : null;
}

/** Bytes that are nowhere else: a part's data. */
function pattern(bytes: number, seed: number): Uint8Array {
	const data = new Uint8Array(bytes);
	for (let i = 0; i < bytes; i++) data[i] = i * 37 + (i >> 8) * 11 + seed;
	return data;
}

function useStreaming(stage: PartStage, { group, bytes, dir }: PartSpec, label: Label): Done {
	const { guest, device, preShared } = stage;
	const { ram, audit } = guest.engine;
	const pages = Math.ceil(bytes / PAGE_SIZE);
	const page = guest.pages.alloc(pages, group === "above 4 GiB" ? {} : { belowGpa: FOUR_GIB });
	if (page < 0 || (group === "above 4 GiB" && page < FOUR_GIB)) return { how: "-", cause: { what: "no-such-memory" } };
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
	const dma = device.tryMap(gpa, bytes, dir, 0, shares ? Attr.CcShared : 0);
	let cause = statusCause(dma);
	const bounced = device.dma.counters.bouncedMaps > before.bouncedMaps;
	const how = dma < 0 ? "-" : device.conversions > converted ? "shared in place" : bounced ? "bounce" : "direct";
	if (dma >= 0) {
		const answer = pattern(bytes, 3);
		if (dir !== Direction.FromDevice) cause = deviceReads(stage, dma, sent);
		if (dir !== Direction.ToDevice) cause ??= deviceWrites(stage, dma, answer);
		device.unmap(dma, bytes, dir);
		if (dir !== Direction.ToDevice && cause === null && !equal(ram.read(gpa, bytes), answer))
			cause = { what: "write-lost" };
	}
	// shared for good: nobody else gets these pages, and no other part what stands in them
	if (!shares) guest.pages.free(page, pages);
	return { how, cause };
}

function useCoherent(stage: PartStage, { group, bytes }: PartSpec, label: Label): Done {
	const { guest, device } = stage;
	const { ram, audit } = guest.engine;
	const atomic = group === "atomic";
	const got = device.allocCoherent(bytes, { atomic });
	if (!got.ok) return { how: "-", cause: { what: "status", status: got.status } };
	const sent = pattern(bytes, 4);
	if (audit !== null) audit.pen = label;
	ram.write(got.gpa, sent);
	if (audit !== null) audit.pen = null;
	const cause = deviceReads(stage, got.dma, sent) ?? deviceWrites(stage, got.dma, pattern(bytes, 5));
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

/** The host stops an interface under a mapping, and the guest accepts it again. */
function changeTrust(stage: PartStage, { bytes, dir }: PartSpec, label: Label): Done {
	const { guest, device } = stage;
	const { trust } = device;
	const { ram, audit } = guest.engine;
	const gpa = guest.pages.alloc(1, { belowGpa: FOUR_GIB });
	if (audit !== null) audit.pen = label;
	ram.write(gpa, pattern(bytes, 6));
	if (audit !== null) audit.pen = null;
	const dma = device.tryMap(gpa, bytes, dir);
	let cause = statusCause(dma);
	if (cause !== null || trust === null) return { how: "-", cause };
	try {
		trust.stop();
		trust.lock();
		trust.collectEvidence();
		trust.accept();
		trust.start();
	} catch (error) {
		if (!(error instanceof TrustError)) throw error;
		cause = { what: "transition", status: error.status };
	}
	device.unmap(dma, bytes, dir);
	guest.pages.free(gpa, 1);
	return { how: "-", cause };
}

function mapMmio({ guest, device, mmioShared }: PartStage, { bytes, dir }: PartSpec): Done {
	const attrs = Attr.Mmio | (mmioShared ? Attr.CcShared : 0);
	const dma = device.tryMap(BAR_GPA, bytes, dir, 0, attrs);
	if (dma < 0) return { how: "-", cause: statusCause(dma) };
	device.unmap(dma, bytes, dir, Attr.Mmio);
	const isPrivate = decodeAddress(guest.platform, dma).form === "private";
	// the peer is not trusted: its registers answer to shared addresses only
	return { how: "direct", cause: isPrivate ? { what: "private-form" } : null };
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
