/** Decoded VMBus bytes as a person reads them. */
import type { Decoded } from "../vmbus/decode/decoded.ts";

/** A decoded piece and where it came from. */
export interface DecodedItem {
	/** "HEX", or a file's path. */
	readonly source: string;
	/** Of a recorded transcript. */
	readonly line?: number;
	/** Of a recorded transcript: how it went, such as "POST connection 0x4 by hc". */
	readonly way?: string;
	readonly decoded: Decoded;
}

/** One field a line: offset, bytes, name, value, meaning. */
export function decodedText({ source, line, way, decoded }: DecodedItem): string {
	const lines = line === undefined ? [] : [`${source}:${line}: ${way}`];
	lines.push(`${decoded.title}, ${decoded.bytes} bytes`);
	for (const { offset, bytes, name, value, meaning } of decoded.fields) {
		const text = `${String(offset).padStart(6)} ${String(bytes).padStart(5)}  ${name.padEnd(22)} ${value}`;
		lines.push(meaning === "" ? text : `${text.padEnd(60)}  ${meaning}`);
	}
	if (decoded.error !== undefined) lines.push(`  malformed: ${decoded.error}`);
	return `${lines.join("\n")}\n`;
}
