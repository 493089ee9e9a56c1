/** Offset of the first label that is not 0, or the length. */
export function firstKnown(labels: Uint8Array): number {
	let at = 0;
	if (labels.byteOffset % 4 === 0) {
		const words = new Uint32Array(labels.buffer, labels.byteOffset, labels.length >>> 2);
		while (at < words.length && words[at] === 0) at++;
		at *= 4;
	}
	while (at < labels.length && labels[at] === 0) at++;
	return at;
}
