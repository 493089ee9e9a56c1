import { describe, expect, it } from "vitest";
import { KERNELS } from "../../src/coco/rules/kernel.ts";
import { verifyRecording } from "../../src/verify/verify.ts";
import { recordingText } from "../helpers/golden.ts";

const textOf = (path: string) => recordingText(new URL(`../golden/${path}.txt.gz`, import.meta.url).pathname);

/** A recording of each format, and the part of Linux that it is of. */
const RECORDINGS: readonly (readonly [format: string, path: string, part: string])[] = [
	["swiotlb-recorded", "swiotlb-recorded/k612-vblk", "swiotlb"],
	["swiotlb-dynamic", "swiotlb-dynamic/dyn-nvme", "swiotlb"],
	["swiotlb-ops", "swiotlb-ops/min1ff_256_a1", "swiotlb"],
	["ring", "ring/small_2p", "ring"],
	["vmbus", "vmbus/connect_5_3", "vmbus-guest"],
];

/** The recording, had another kernel been recorded. */
function ofKernel(path: string, release: string): string {
	const text = textOf(path);
	const [first] = text.split("\n", 1) as [string];
	const named = first.replace(/(kernel=|linux[ -])6\.12[^ ]*/, (_, name: string) => `${name}${release}`);
	expect(named).toContain(release);
	return named + text.slice(first.length);
}

describe("verify, by the kernel that a recording names", () => {
	it.each(RECORDINGS)("refuses %s of a kernel whose rules are not here, in one line", async (format, path, part) => {
		for (const kernel of ["6.1.0-57-amd64", "6.120.1", "9.9"]) {
			const result = await verifyRecording(ofKernel(path, kernel), { name: `folder/${format}.txt.gz` });
			const known = Object.values(KERNELS).flatMap(({ release, parts }) =>
				(parts as readonly string[]).includes(part) ? [release] : [],
			);
			expect(result).toEqual({
				recording: `folder/${format}.txt.gz`,
				format,
				identical: false,
				compared: {},
				unsupported: { line: 1, kernel, part, known },
				summary: `${format}: line 1: kernel: expected a kernel whose ${part} rules are here (${known.join(", ")}), found ${kernel}`,
			});
		}
	});

	it("refuses a part of a known kernel that is not here", async () => {
		const result = await verifyRecording(ofKernel("vmbus/connect_5_3", "7.3.4"));
		expect(result.unsupported).toEqual({ line: 1, kernel: "7.3.4", part: "vmbus-guest", known: ["6.12"] });
	});

	it.each(["6.12", "6.12.1", "6.12.117+deb12-amd64", "6.12-rc3"])("replays one of %s", async (kernel) => {
		const result = await verifyRecording(ofKernel("swiotlb-recorded/up-small-mixed", kernel));
		expect(result.divergence).toBeUndefined();
		expect(result.identical).toBe(true);
	});

	it("replays swiotlb of 7.3, which places slots as 6.12 does, and one that names no kernel", async () => {
		for (const text of [
			ofKernel("swiotlb-recorded/up-small-mixed", "7.3.4"),
			textOf("swiotlb-recorded/up-small-mixed").replace(/kernel=\S+ /, ""),
		])
			expect((await verifyRecording(text)).identical).toBe(true);
	});
});
