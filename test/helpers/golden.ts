/** Recordings, as the tests change them. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

/** The text of a recording, plain or gzip. */
export function recordingText(path: string): string {
	const bytes = readFileSync(path);
	return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
}
