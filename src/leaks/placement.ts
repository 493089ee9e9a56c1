/** Where a mapping was placed, and what must hold of that. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { attributesOf } from "../coco/rules/attributes.ts";
import { PageState } from "../memory/ram.ts";
import { hex } from "../status.ts";
import type { Gpa } from "../types.ts";
import { type Mapping, slotsOf } from "./mappings.ts";
import { bytesOf } from "./ranges.ts";
import { count, mappingText, poolAt, privateRuns, type Watch } from "./watch.ts";

/** Checks a mapping that was just made; form: that of its address. */
export function checkMap(watch: Watch, mapping: Mapping, form: "private" | "shared" | null): void {
	checkAddress(watch, mapping, form);
	if (mapping.tlb !== null) {
		checkSlots(watch, mapping, mapping.tlb);
		checkPoolState(watch, mapping, mapping.tlb);
		checkPadding(watch, mapping, mapping.tlb);
	} else checkWindow(watch, mapping);
}

/** Checks slots that were taken beside a map. */
export function checkTake(watch: Watch, mapping: Mapping): void {
	if (mapping.tlb !== null) checkSlots(watch, mapping, mapping.tlb);
}

/** What findings about a mapping have in common. */
function about(watch: Watch, { device, number, event }: Mapping) {
	return { device: watch.devices.nameOf(device), mapping: number, event };
}

/** The address that the device is given: what it reaches, and what it says of its pages. */
function checkAddress(watch: Watch, mapping: Mapping, form: "private" | "shared" | null): void {
	const { dma, bytes, gpa } = mapping;
	const { dmaMask = 2n ** 64n - 1n, busLimit = 0n } = watch.devices.of(mapping.device)?.options ?? {};
	const limit = busLimit !== 0n && busLimit < dmaMask ? busLimit : dmaMask;
	const end = BigInt(dma) + BigInt(bytes) - 1n;
	const place = mapping.tlb ?? gpa;
	if (end > limit) {
		const text = () =>
			`${mappingText(watch, mapping)}: address ${hex(dma)} ends at 0x${end.toString(16)}, beyond 0x${limit.toString(16)}`;
		watch.findings.add("address-within-mask", { ...about(watch, mapping), gpa: place, bytes, text });
	}
	if (form === null) return;
	for (let page = place - (place % PAGE_SIZE); page < place + bytes; page += PAGE_SIZE) {
		const isPrivate = watch.pages.stateAt(page) === PageState.Private;
		if (isPrivate === (form === "private")) continue;
		const text = () =>
			`${mappingText(watch, mapping)}: address ${hex(dma)} has the ${form} form, and the page at ${hex(page)} is ${isPrivate ? "private" : "shared"}`;
		watch.findings.add("encoding-equals-state", { ...about(watch, mapping), gpa: Math.max(place, page), bytes, text });
		return;
	}
}

/** Where the slots lie. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area */
function checkSlots(watch: Watch, mapping: Mapping, tlb: Gpa): void {
	const { gpa, bytes } = mapping;
	const { from, to } = slotsOf(tlb, bytes);
	const { segBoundaryMask = 0n, minAlignMask = 0 } = watch.devices.of(mapping.device)?.options ?? {};
	const seen = { ...about(watch, mapping), gpa: tlb };
	const name = () => mappingText(watch, mapping);
	for (const other of watch.mappings.touching(from, to - from)) {
		if (other === mapping || other.tlb === null) continue;
		const its = slotsOf(other.tlb, other.bytes);
		const shared = Math.min(to, its.to) - Math.max(from, its.from);
		if (shared <= 0) continue;
		const text = () =>
			`${name()}: ${shared / IO_TLB_SIZE} of its slots serve mapping ${other.number} of "${watch.devices.nameOf(other.device)}" too`;
		watch.findings.add("slot-has-one-owner", { ...seen, gpa: Math.max(from, its.from), bytes: shared, text });
	}
	const start = poolAt(watch, tlb)?.start;
	const set = (at: number, first: number) => Math.floor((at - first) / (IO_TLB_SIZE * IO_TLB_SEGSIZE));
	if (start !== undefined && set(from, start) !== set(to - 1, start))
		watch.findings.add("slot-has-one-owner", { ...seen, bytes, text: () => `${name()}: crosses a set of 128 slots` });
	const boundary = Math.max(Number(segBoundaryMask) + 1, IO_TLB_SIZE);
	if (segBoundaryMask !== 0n && Math.floor(from / boundary) !== Math.floor((to - 1) / boundary))
		watch.findings.add("slot-has-one-owner", {
			...seen,
			bytes,
			text: () => `${name()}: crosses the boundary 0x${segBoundaryMask.toString(16)}`,
		});
	const mask = BigInt(minAlignMask);
	const keeps = (BigInt(tlb) & mask) === (BigInt(gpa) & mask);
	const page = minAlignMask === 0 && bytes >= PAGE_SIZE && tlb % PAGE_SIZE !== 0;
	if (gpa >= 0 && (!keeps || page)) {
		const rule = page ? "a whole page starts at a page" : `the original's bits under ${hex(minAlignMask)} are kept`;
		watch.findings.add("alignment-kept", { ...seen, bytes, text: () => `${name()}: not so that ${rule}` });
	}
}

/** What the pool is and what the device needs, of the kernels that have the rule. */
function checkPoolState(watch: Watch, mapping: Mapping, tlb: Gpa): void {
	const { kernel, platform } = watch.guest;
	if (!kernel.rules.bounceAsksPoolState.is || platform.hostRead === "plain") return;
	const isShared = watch.pages.stateAt(tlb) !== PageState.Private;
	const needsShared =
		attributesOf(kernel, platform).host || watch.devices.at(mapping.device, mapping.event).needsShared;
	if (isShared === needsShared) return;
	const text = () =>
		`${mappingText(watch, mapping)}: the pool is ${isShared ? "shared" : "private"}, the device needs ${needsShared ? "shared" : "private"} memory`;
	watch.findings.add("pool-state-equals-need", { ...about(watch, mapping), gpa: tlb, bytes: mapping.bytes, text });
}

/** What others left in the slots beside the mapped bytes. */
function checkPadding(watch: Watch, mapping: Mapping, tlb: Gpa): void {
	if (watch.pages.stateAt(tlb) !== PageState.Shared) return;
	const { from, to } = slotsOf(tlb, mapping.bytes);
	const parts = [
		[from, tlb],
		[tlb + mapping.bytes, to],
	] as const;
	for (const run of parts.flatMap(([start, end]) => [...privateRuns(watch.audit, start, end)])) {
		const { accepted } = run.label;
		const text = () => `${mappingText(watch, mapping)}: ${count(run.bytes)} at ${hex(run.gpa)} beside it are private`;
		watch.findings.add("padding-residue", { ...about(watch, mapping), gpa: run.gpa, bytes: run.bytes, accepted, text });
	}
}

/** What lies in and beside a buffer that a device reaches in place. */
function checkWindow(watch: Watch, mapping: Mapping): void {
	const { gpa, bytes } = mapping;
	const { accepted } = watch.devices.at(mapping.device, mapping.event);
	const last = Math.ceil((gpa + bytes) / PAGE_SIZE) * PAGE_SIZE;
	for (let page = gpa - (gpa % PAGE_SIZE); page < last; page += PAGE_SIZE) {
		if (watch.pages.stateAt(page) !== PageState.Shared) continue;
		// only its first and last page hold anything beside it
		const parts = [
			[page, Math.min(gpa, page + PAGE_SIZE), "sub-page-exposure"],
			[Math.max(gpa, page), Math.min(gpa + bytes, page + PAGE_SIZE), "no-t1-data-in-t0-window"],
			[Math.max(gpa + bytes, page), page + PAGE_SIZE, "sub-page-exposure"],
		] as const;
		for (const [from, to, property] of parts) {
			for (const run of privateRuns(watch.audit, from, to)) {
				const isInside = property === "no-t1-data-in-t0-window";
				if (isInside && (accepted || !run.label.accepted)) continue;
				const kept = watch.given.missing(run.gpa, run.gpa + run.bytes);
				const [first] = kept;
				if (first === undefined) continue;
				const where = isInside ? "of an accepted device are in it" : "beside it are private";
				const text = () => `${mappingText(watch, mapping)}: ${count(bytesOf(kept))} at ${hex(first[0])} ${where}`;
				const seen = { ...about(watch, mapping), gpa: first[0], bytes: bytesOf(kept), text };
				watch.findings.add(property, { ...seen, accepted: accepted || run.label.accepted });
			}
		}
	}
}
