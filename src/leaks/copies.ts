/** What must hold of bytes that are moved: by the engine between originals and slots, and by conversions of pages. */
import { ACTOR_HOST } from "../../assembly/layout/audit.ts";
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { AuditEvent } from "../audit/events.ts";
import { PageState } from "../memory/ram.ts";
import { hex } from "../status.ts";
import { Direction, type Gpa } from "../types.ts";
import { type Mapping, slotsOf } from "./mappings.ts";
import { bytesOf } from "./ranges.ts";
import { count, mappingText, privateRuns, type Watch } from "./watch.ts";

/** A copy that belongs to a bounced mapping. */
export function checkCopy(watch: Watch, mapping: Mapping, event: AuditEvent): void {
	// a map that was refused has told no address: its copy does
	mapping.tlb ??= event.gpa;
	const { tlb } = mapping;
	const { from, to } = slotsOf(tlb, mapping.bytes);
	if (event.gpa >= from && event.gpa < to) copyIn(watch, mapping, event, event.gpa - tlb);
	else copyBack(watch, mapping, event, event.from - tlb);
}

/** Original to slots: what of private data comes to shared pages by it. */
function copyIn(watch: Watch, mapping: Mapping, event: AuditEvent, offset: number): void {
	mapping.filled.add(offset, offset + event.bytes);
	mapping.wrote.remove(offset, offset + event.bytes);
	const { sharedBytes, acceptedBytes } = event;
	if (sharedBytes === 0) return;
	const { accepted, forced } = watch.devices.at(mapping.device, event.number);
	const device = watch.devices.nameOf(mapping.device);
	const seen = { gpa: event.gpa, device, mapping: mapping.number, event: event.number };
	const name = () => mappingText(watch, mapping);
	if (accepted) {
		const text = () => `${name()}: ${count(sharedBytes)} of an accepted device's private data copied to shared pages`;
		watch.findings.add("private-stays-private", { ...seen, bytes: sharedBytes, text });
		if (forced)
			watch.findings.add("force-never-redirects-accepted", {
				...seen,
				bytes: sharedBytes,
				text: () => `${text()}, by swiotlb=force`,
			});
	} else if (acceptedBytes > 0) {
		const owner = ownerOf(watch, event);
		const text = () => `${name()}: ${count(acceptedBytes)} of "${owner}", which is accepted, copied to shared pages`;
		const its = { ...seen, gpa: firstAccepted(watch, event), bytes: acceptedBytes, text };
		watch.findings.add("private-stays-private", { ...its, device: owner });
		watch.findings.add("no-t1-data-in-t0-window", its);
	}
	if (mapping.dir === Direction.FromDevice) {
		const text = () => `${name()}: its initial copy shows ${count(sharedBytes)} of what the buffer held before`;
		watch.findings.add("initial-copy-shows-old-contents", {
			...seen,
			bytes: sharedBytes,
			accepted: accepted || acceptedBytes > 0,
			text,
		});
	}
}

/** Slots to original: whose bytes come back, and where to. */
function copyBack(watch: Watch, mapping: Mapping, event: AuditEvent, offset: number): void {
	const { number, gpa, bytes, device } = mapping;
	const seen = { device: watch.devices.nameOf(device), mapping: number, event: event.number };
	const name = () => mappingText(watch, mapping);
	const stale = mapping.filled.missing(offset, Math.min(offset + event.bytes, bytes));
	const [first] = stale;
	if (first !== undefined) {
		const text = () => `${name()}: ${count(bytesOf(stale))} that came back were in the slots before it`;
		watch.findings.add("from-device-starts-as-copy", { ...seen, gpa: gpa + first[0], bytes: bytesOf(stale), text });
	}
	const before = Math.max(Math.min(gpa, event.gpa + event.bytes) - event.gpa, 0);
	const behind = Math.max(event.gpa + event.bytes - Math.max(gpa + bytes, event.gpa), 0);
	if (before + behind > 0) {
		const at = before > 0 ? event.gpa : Math.max(gpa + bytes, event.gpa);
		const text = () => `${name()}: ${count(before + behind)} outside of it came back, from ${hex(at)} on`;
		watch.findings.add("write-beyond-mapping", { ...seen, gpa: at, bytes: before + behind, text });
	}
	mapping.wrote.remove(offset, offset + event.bytes);
}

/** Bytes that a device wrote: private-stays-private, where they are on their way to a private buffer of an accepted one. */
export function checkDeviceWrite(watch: Watch, mapping: Mapping, event: AuditEvent): void {
	const { accepted } = watch.devices.at(event.device, event.number);
	if (event.sharedBytes === 0 || !accepted || !mapping.fromPrivate || mapping.tlb === null) return;
	const text = () =>
		`${mappingText(watch, mapping)}: ${count(event.sharedBytes)} that an accepted device writes to a private buffer are on shared pages`;
	const device = watch.devices.nameOf(event.device);
	const seen = { gpa: event.gpa, device, mapping: mapping.number, event: event.number };
	watch.findings.add("private-stays-private", { ...seen, bytes: event.sharedBytes, text });
}

/** Bytes that the guest itself brought to a shared page, or whose page became shared: private-stays-private. */
export function checkOwnMove(watch: Watch, event: AuditEvent): void {
	if (event.acceptedBytes === 0) return;
	const device = ownerOf(watch, event);
	const how = event.kind === "convert" ? "stand on a page that became shared" : "were put on a shared page";
	const gpa = firstAccepted(watch, event);
	const text = () => `${count(event.acceptedBytes)} of "${device}", which is accepted, ${how} at ${hex(gpa)}`;
	watch.findings.add("private-stays-private", { gpa, device, event: event.number, bytes: event.acceptedBytes, text });
}

/** Pages that changed their state: private-stays-private, and paravisor-page-unmapped for those that the host did not map. */
export function checkConversion(watch: Watch, event: AuditEvent, before: PageState | null): void {
	checkOwnMove(watch, event);
	if (before !== PageState.Hidden || event.state !== PageState.Shared) return;
	const still = watch.guest.engine.ram.pageState(event.gpa) === PageState.Shared;
	const { bytes, gpa } = still ? holdings(watch, event.gpa, event.bytes) : { bytes: 0, gpa: event.gpa };
	const held = Math.max(bytes, event.sharedBytes);
	if (held === 0) return;
	const text = () => `the host maps a page at ${hex(event.gpa)} that was hidden from it, with ${count(held)} in it`;
	watch.findings.add("paravisor-page-unmapped", { gpa, event: event.number, bytes: held, text });
}

/** How many bytes of a range are not 0, and the first. The host's own do not count. */
export function holdings({ guest, audit }: Watch, gpa: Gpa, bytes: number): { bytes: number; gpa: Gpa } {
	let [held, first] = [0, gpa];
	for (let page = gpa; page < gpa + bytes; page += PAGE_SIZE) {
		const labels = audit.labelsAt(page, PAGE_SIZE);
		for (const [i, value] of guest.engine.ram.view(page, PAGE_SIZE).entries()) {
			const label = audit.labelOf(labels[i] as number);
			if ((value === 0 && label?.isPrivate !== true) || label?.owner === ACTOR_HOST) continue;
			if (held === 0) first = page + i;
			held++;
		}
	}
	return { bytes: held, gpa: first };
}

/** Where the first accepted device's byte went to, or the first byte if others stand there by now. */
function firstAccepted({ audit }: Watch, { gpa, bytes }: AuditEvent): Gpa {
	for (const run of privateRuns(audit, gpa, gpa + bytes)) if (run.label.accepted) return run.gpa;
	return gpa;
}

function ownerOf({ audit, devices }: Watch, event: AuditEvent): string {
	return devices.nameOf(audit.labelOf(event.acceptedLabel)?.owner ?? -1);
}
