/** One mapping, explained. */
import { type Explanation, exposes, type Readers } from "../coco/guest/explain.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { hex } from "../status.ts";
import { paragraph, type Report, report, row, table, text } from "./model.ts";

function readersRow({ when, where, pages, guest, paravisor, host, device }: Readers) {
	return row(
		when,
		[where, pages, ...[guest, paravisor, host, device].map((sight) => sight ?? "-")].map((each) => text(each)),
	);
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

function answer(guest: Guest, explanation: Explanation): string {
	if (guest.platform.hostRead === "plain") return "Nothing is private on this platform.";
	if (explanation.readers[0]?.pages !== "private") return "The buffer lies on shared pages: the host reads it anyway.";
	return exposes(explanation) ? "The host reads bytes of a private buffer." : "The host reads no byte of the buffer.";
}

/** The whole explanation. */
export function explainReport(guest: Guest, explanation: Explanation): Report {
	const { device, request, steps, readers } = explanation;
	const { gpa, bytes, dir, cpu } = request;
	const { platform, kernel } = guest;
	const asked = steps.map(({ predicate, value, why }, i) =>
		row(String(i + 1).padStart(2), [text(predicate), text(value), text(why)]),
	);
	return report("One DMA mapping, step by step", [
		{
			title: `${device} on ${platform.title} (${platform.name}), rules of ${kernel.name}`,
			blocks: [
				paragraph(`map(gpa ${hex(gpa)}, ${bytes} bytes, ${dir}) on CPU ${cpu}`),
				table("words", [{ title: "", rows: asked }]),
				paragraph(outcome(explanation)),
				table("words", [{ title: "", rows: readers.map(readersRow) }], {
					corner: "when",
					columns: ["bytes", "pages", "guest", "paravisor", "host", "device"],
				}),
				paragraph(answer(guest, explanation), "answer"),
			],
		},
	]);
}
