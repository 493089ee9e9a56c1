/** An explanation as a person reads it. */
import { type Explanation, exposes, type Readers } from "../coco/guest/explain.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { hex } from "../status.ts";
import { leftTable } from "./table.ts";

function readersRow({ when, where, pages, guest, paravisor, host, device }: Readers): string[] {
	return [when, where, pages, ...[guest, paravisor, host, device].map((sight) => sight ?? "-")];
}

function outcome({ decision, status, dma, bounce }: Explanation): string {
	if (status !== null && bounce === null) return `refused: ${status}`;
	if (bounce === null) return `${decision}: the device is given ${hex(dma as number)}`;
	const { pool, tlb, firstSlot, slots, transient } = bounce;
	const where = transient ? `a transient pool of "${pool}"` : `pool "${pool}"`;
	const which = `${slots} slot${slots === 1 ? "" : "s"} of 2 KiB, tlb_addr ${hex(tlb)} in slot ${firstSlot}`;
	if (status !== null) return `refused after a copy into ${where}, ${which}: ${status}`;
	return `bounce: ${where}, ${which}; the device is given ${hex(dma as number)}`;
}

/** The whole explanation. */
export function explainText(guest: Guest, explanation: Explanation): string {
	const { device, request, steps, readers } = explanation;
	const title = `${device} on ${guest.platform.title} (${guest.platform.name}), rules of ${guest.kernel.name}`;
	const { gpa, bytes, dir, cpu } = request;
	const verdict = exposes(explanation)
		? "The host reads bytes of a private buffer."
		: "The host reads no byte of the buffer.";
	const shared =
		readers[0]?.pages === "private" ? verdict : "The buffer lies on shared pages: the host reads it anyway.";
	return [
		title,
		`map(gpa ${hex(gpa)}, ${bytes} bytes, ${dir}) on CPU ${cpu}`,
		"",
		textLines(steps.map(({ predicate, value, why }) => [predicate, value, why])),
		"",
		outcome(explanation),
		"",
		leftTable([["when", "bytes", "pages", "guest", "paravisor", "host", "device"], ...readers.map(readersRow)]),
		"",
		guest.platform.hostRead === "plain" ? "Nothing is private on this platform." : shared,
	].join("\n");
}

function textLines(rows: string[][]): string {
	return leftTable(rows.map((row, i) => [String(i + 1).padStart(2), ...row]));
}
