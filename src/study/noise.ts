/** What conversions leave where only their noise matters: nothing of what stood there, as for who lacks the key. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { MemoryCipher } from "../coco/platform/ciphertext.ts";

/** A constant by page, whatever the data: cheap, and no way back. */
export const NOISE: MemoryCipher = {
	isAes: false,
	encrypt: (gpa, data) => new Uint8Array(data.length).fill((gpa / PAGE_SIZE) & 0xff),
	decrypt: (gpa, data) => new Uint8Array(data.length).fill((gpa / PAGE_SIZE + 1) & 0xff),
};
