/**
 * Conversions exclude the calls that rely on page states (threads builds). Such a call counts itself in before it looks at
 * the states and out when its copies are done; a conversion first blocks the pages, then waits until everybody was out
 * once: calls before it have ended, calls after it meet blocked pages.
 */
import { ACTIVE_LINES, ACTIVE_SHIFT, CTX_ACTIVE, CTX_ATTACHED } from "../layout/context.ts";
import { context } from "./context.ts";
import { yieldTo } from "./lock.ts";

/** Offset of this instance's count from the first: instances on a line of their own do not slow each other. */
let line: usize = 0;

/** Gives this instance its line. */
export function quiesceAttach(): void {
	if (COCO_THREADS) {
		const number = atomic.add<u32>(context() + CTX_ATTACHED, 1);
		line = (number & (ACTIVE_LINES - 1)) << ACTIVE_SHIFT;
	}
}

/** ptr of the first count. */
function counts(): usize {
	return context() + load<u32>(context(), CTX_ACTIVE);
}

/** A call that relies on page states begins. */
export function enter(): void {
	if (COCO_THREADS) atomic.add<i32>(counts() + line, 1);
}

/** It has ended. */
export function leave(): void {
	if (COCO_THREADS) atomic.sub<i32>(counts() + line, 1);
}

/** Waits until each call that is under way now has ended. */
export function quiesce(): void {
	if (COCO_THREADS) {
		for (let i: u32 = 0; i < ACTIVE_LINES; i++) {
			const count = counts() + (i << ACTIVE_SHIFT);
			for (let look = 0; ; look++) {
				const calls = atomic.load<i32>(count);
				if (calls === 0) break;
				yieldTo(count, calls, look);
			}
		}
	}
}
