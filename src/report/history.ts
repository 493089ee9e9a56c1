/** The history of a byte, for people. */
import { Actor } from "../audit/audit.ts";
import type { AuditEvent } from "../audit/events.ts";
import type { ByteHistory, HistoryStep } from "../leaks/history.ts";
import { count } from "../leaks/watch.ts";
import { pageStateName } from "../memory/ram.ts";
import { hex } from "../status.ts";
import { directionName } from "../types.ts";

/** Names of devices by their numbers. Default: "device <number>". */
export type DeviceNames = (device: number) => string;

/**
 * A line for each step, the oldest first, such as
 *
 *   write   gpa 0x5000 (4,096 bytes) by the guest's CPU, private page, event 12
 */
export function historyText(history: ByteHistory, names: DeviceNames = (device) => `device ${device}`): string[] {
	const lines = history.steps.map(
		(step) => `${step.role.padEnd(7)} ${stepText(step, names)}, event ${step.event.number}`,
	);
	if (history.complete) return lines;
	const gone =
		history.goneEvents === 0 ? "when the audit began" : `before event ${history.goneEvents}, gone from the log`;
	return [`        what stood there first came ${gone}`, ...lines];
}

function stepText({ role, event, bouncedTo, times }: HistoryStep, names: DeviceNames): string {
	const { gpa, from, bytes, mapping, device, state, status } = event;
	const refused = status === null ? "" : `, refused: ${status}`;
	const page = `${pageStateName(state)} page`;
	switch (role) {
		case "write":
			return `gpa ${hex(gpa)} (${count(bytes)}) by ${party(event, names)}, ${page}`;
		case "fill":
			return `gpa ${hex(gpa)} (${count(bytes)}) with one value by ${party(event, names)}, ${page}`;
		case "copy": {
			const by = mapping === 0 ? "" : `, by mapping ${mapping}`;
			return `${hex(from)} -> ${hex(gpa)}, ${count(bytes)}, ${page}${by}`;
		}
		case "map": {
			const where = bouncedTo === null ? "direct" : `bounced to ${hex(bouncedTo)}`;
			const how = status !== null && bouncedTo === null ? "" : `, ${where}`;
			return `mapping ${mapping} of "${names(device)}": ${hex(gpa)}, ${count(bytes)} ${directionName(event.dir)}${how}${refused}`;
		}
		case "sync":
			return `${event.kind} of mapping ${mapping}, ${count(bytes)}${refused}`;
		case "unmap": {
			if (status !== null) return `of mapping ${mapping}${refused}`;
			return mapping === 0
				? `a direct mapping of "${names(device)}" ended`
				: `mapping ${mapping} ended, its slots are free`;
		}
		case "convert":
			return `its page became ${pageStateName(state)}`;
		case "read":
			return `gpa ${hex(from)} (${count(bytes)}) by ${party(event, names)}${times === 1 ? "" : `, ${times} times`}`;
	}
}

/** Who read or wrote. */
function party({ device }: AuditEvent, names: DeviceNames): string {
	if (device === Actor.Guest) return "the guest's CPU";
	if (device === Actor.Paravisor) return "the paravisor";
	return device === Actor.Host ? "the host" : `"${names(device)}"`;
}
