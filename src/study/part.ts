/** One piece of DMA under a policy, run on the audit build: what the host could read of it, and whether it worked. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Audit, Label } from "../audit/audit.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { CipherUnavailable } from "../coco/platform/ciphertext.ts";
import { AccessFault } from "../coco/platform/violations.ts";
import { KernelCrash } from "../coco/rules/policy.ts";
import { TrustError } from "../coco/trust/error.ts";
import { PageState } from "../memory/ram.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import { statusName } from "../status.ts";
import { Attr, Direction } from "../types.ts";

/** What a part of a cell is about: parts of one group answer one question. */
export type PartGroup = "streaming" | "small" | "above 4 GiB" | "coherent" | "atomic" | "mmio" | "transition";

export interface PartSpec {
	readonly name: string;
	readonly group: PartGroup;
	readonly bytes: number;
	readonly dir: Direction;
}

/** What a part came to. Bytes of private origin count each time that they reach a page. */
export interface PartOutcome {
	/** The device's own bytes, on pages that the host reads and on pages that it does not map. */
	readonly sharedBytes: number;
	readonly hiddenBytes: number;
	/** Bytes of nobody's request that became readable beside them: page granularity. */
	readonly neighbourBytes: number;
	readonly how: "direct" | "bounce" | "shared in place" | "allocated" | "-";
	/** Why it did not work, or null. */
	readonly refused: string | null;
	/** Where the kernel ends, or null. */
	readonly crash: string | null;
	/** What the kernel did that it may not do there. */
	readonly hazards: readonly string[];
	/** Pages whose state was changed for the mapping. */
	readonly conversions: number;
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

/** Of a part that has not happened. */
export const NO_OUTCOME: PartOutcome = {
	sharedBytes: 0,
	hiddenBytes: 0,
	neighbourBytes: 0,
	how: "-",
	refused: null,
	crash: null,
	hazards: [],
	conversions: 0,
};

/**
 * Runs a part. The guest's state is afterwards what it was, but for what the policy leaks and for a change of trust.
 * @returns null where there is no such thing: a change of trust, of a device that nobody can come to trust
 */
export function runPart(stage: PartStage, spec: PartSpec): PartOutcome | null {
	const { guest, device } = stage;
	const { audit } = guest.engine;
	if (audit === null) throw new RangeError('a part is run on an engine of the build "engine.audit"');
	if (spec.group === "transition" && device.trust === null) return null;
	const label = ownLabel(audit, device);
	const before = countedBytes(audit, device);
	const hazards = guest.hazards.length;
	const conversions = device.conversions;
	let done: Pick<PartOutcome, "how" | "refused"> = { how: "-", refused: null };
	let crash: string | null = null;
	guest.converter.onTransition = (gpa) => strayRead(guest, gpa);
	try {
		if (spec.group === "mmio") done = mapMmio(stage, spec);
		else if (spec.group === "transition") done = changeTrust(stage, spec, label);
		else if (spec.group === "coherent" || spec.group === "atomic") done = useCoherent(stage, spec, label);
		else done = useStreaming(stage, spec, label);
	} catch (error) {
		if (!(error instanceof KernelCrash)) throw error;
		crash = error.message;
	} finally {
		audit.pen = null;
		guest.converter.onTransition = null;
	}
	const after = countedBytes(audit, device);
	return {
		...NO_OUTCOME,
		...done,
		crash,
		sharedBytes: after.own - before.own,
		hiddenBytes: after.hidden - before.hidden,
		neighbourBytes: after.others - before.others,
		hazards: [...new Set(guest.hazards.slice(hazards).map(({ what }) => what))],
		conversions: device.conversions - conversions,
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

type Done = Pick<PartOutcome, "how" | "refused">;

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
	if (page < 0 || (group === "above 4 GiB" && page < FOUR_GIB))
		return { how: "-", refused: "the guest has no such memory" };
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
	let refused: string | null = dma < 0 ? statusName(dma) : null;
	const bounced = device.dma.counters.bouncedMaps > before.bouncedMaps;
	const how = dma < 0 ? "-" : device.conversions > converted ? "shared in place" : bounced ? "bounce" : "direct";
	if (dma >= 0) {
		const answer = pattern(bytes, 3);
		if (dir !== Direction.FromDevice) refused = deviceReads(stage, dma, sent);
		if (dir !== Direction.ToDevice) refused ??= deviceWrites(stage, dma, answer);
		device.unmap(dma, bytes, dir);
		if (dir !== Direction.ToDevice && refused === null && !equal(ram.read(gpa, bytes), answer))
			refused = "the device's bytes do not arrive";
	}
	// shared for good: nobody else gets these pages, and no other part what stands in them
	if (!shares) guest.pages.free(page, pages);
	return { how, refused };
}

function useCoherent(stage: PartStage, { group, bytes }: PartSpec, label: Label): Done {
	const { guest, device } = stage;
	const { ram, audit } = guest.engine;
	const atomic = group === "atomic";
	const got = device.allocCoherent(bytes, { atomic });
	if (!got.ok) return { how: "-", refused: got.status };
	const sent = pattern(bytes, 4);
	if (audit !== null) audit.pen = label;
	ram.write(got.gpa, sent);
	if (audit !== null) audit.pen = null;
	const refused = deviceReads(stage, got.dma, sent) ?? deviceWrites(stage, got.dma, pattern(bytes, 5));
	device.freeCoherent(got, { atomic });
	return { how: "allocated", refused };
}

/** Some other code of the kernel reads a word across the end of the page before one in transition (load_unaligned_zeropad). */
function strayRead({ converter, engine }: Guest, gpa: number): void {
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
	if (dma < 0 || trust === null) return { how: "-", refused: dma < 0 ? statusName(dma) : null };
	let refused: string | null = null;
	try {
		trust.stop();
		trust.lock();
		trust.collectEvidence();
		trust.accept();
		trust.start();
	} catch (error) {
		if (!(error instanceof TrustError)) throw error;
		refused = `accept under a mapping: ${error.status}`;
	}
	device.unmap(dma, bytes, dir);
	guest.pages.free(gpa, 1);
	return { how: "-", refused };
}

function mapMmio({ guest, device, mmioShared }: PartStage, { bytes, dir }: PartSpec): Done {
	const attrs = Attr.Mmio | (mmioShared ? Attr.CcShared : 0);
	const dma = device.tryMap(BAR_GPA, bytes, dir, 0, attrs);
	if (dma < 0) return { how: "-", refused: statusName(dma) };
	device.unmap(dma, bytes, dir, Attr.Mmio);
	const bit = guest.platform.encryptionBit;
	const hasBit = bit !== null && dma >= 2 ** bit;
	const isPrivate = guest.platform.bitMeans !== null && (guest.platform.bitMeans === "private") === hasBit;
	// the peer is not trusted: its registers answer to shared addresses only
	return { how: "direct", refused: isPrivate ? "the address has the private form, the peer's BAR is shared" : null };
}

function deviceReads({ device, guest }: PartStage, dma: number, sent: Uint8Array): string | null {
	const before = guest.parties.violations.total;
	try {
		const got = device.read(dma, sent.length);
		if (guest.parties.violations.total > before)
			return `the device gets ${guest.parties.violations.list.at(-1)?.result}`;
		return equal(got, sent) ? null : "the data is lost by the conversion";
	} catch (error) {
		return stopped(error);
	}
}

function deviceWrites({ device, guest }: PartStage, dma: number, data: Uint8Array): string | null {
	const before = guest.parties.violations.total;
	try {
		device.write(dma, data);
		return guest.parties.violations.total > before ? "the device's write corrupts private memory" : null;
	} catch (error) {
		return stopped(error);
	}
}

/** What stopped a device. */
function stopped(error: unknown): string {
	if (error instanceof AccessFault) return `the device is stopped: ${error.violation.what}`;
	if (error instanceof CipherUnavailable) return "the device gets ciphertext";
	throw error;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
