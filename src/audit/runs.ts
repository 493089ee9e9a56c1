/** Runs of equal labels. */

/** The label that all bytes have, or -1: they differ. labels: one at least */
export function uniformLabel(labels: Uint8Array): number {
	const first = labels[0] as number;
	for (let i = 1; i < labels.length; i++) if (labels[i] !== first) return -1;
	return first;
}

/** Runs of equal labels, the first one first, each from `at` to before `end`. */
export function* labelRuns(
	labels: Uint8Array,
): Generator<{ readonly at: number; readonly end: number; readonly number: number }> {
	const { length } = labels;
	if (length === 0) return;
	if (uniformLabel(labels) >= 0) {
		yield { at: 0, end: length, number: labels[0] as number };
		return;
	}
	for (let at = 0; at < length; ) {
		const number = labels[at] as number;
		let end = at + 1;
		while (end < length && labels[end] === number) end++;
		yield { at, end, number };
		at = end;
	}
}
