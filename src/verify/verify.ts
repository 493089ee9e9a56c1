/** Finds out what a recording is and replays it. */
import { InputError } from "../input-error.ts";
import { readText } from "../node/input.ts";
import type { Build } from "../wasm.ts";
import { isDecisions, verifyDecisions } from "./decisions.ts";
import { isDynamic, verifyDynamic } from "./dynamic.ts";
import { isOps, verifyOps } from "./ops.ts";
import { isRecorded, verifyRecorded } from "./recorded.ts";
import type { VerifyResult } from "./result.ts";
import { isRing, verifyRing } from "./ring.ts";
import { isVmbus, verifyVmbus } from "./vmbus.ts";

/**
 * Replays a recording of real code and stops at the first answer that differs.
 * @param build "reference" replays it on the kernel's list algorithm instead
 * @throws InputError for a file that cannot be read or is of no known format
 */
export async function verifyFile(path: string, build: Build = "engine"): Promise<VerifyResult> {
	const text = readText(path);
	if (isOps(text)) return verifyOps(path, text, build);
	if (isDynamic(text)) return verifyDynamic(path, text, build);
	if (isRecorded(text)) return verifyRecorded(path, text, build);
	if (isRing(text)) return verifyRing(path, text, build);
	if (isDecisions(text)) return verifyDecisions(path, text, build);
	if (isVmbus(text)) return verifyVmbus(path, text, build);
	throw new InputError(
		`${path}:1: unknown format: expected a swiotlb-recorded, swiotlb-dynamic, swiotlb-ops, ring or dma-decisions recording, or a vmbus transcript`,
	);
}
