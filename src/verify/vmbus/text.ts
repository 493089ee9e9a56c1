/** Messages as people read them, for divergences. */
import { describeMessage } from "../../vmbus/decode/message.ts";

/** Longest text of a field. */
const FIELD_TEXT = 60;

const cut = (text: string) => (text.length > FIELD_TEXT ? `${text.slice(0, FIELD_TEXT)}...` : text);

/** A payload in one line: the message's name, its fields and its size. */
export function describePayload(payload: Uint8Array): string {
	const { name: message, bytes, fields, error } = describeMessage(payload);
	const type = fields.find(({ name }) => name === "type");
	const number = type?.meaning === message ? ` (${type.value})` : "";
	const shown = fields.filter(({ name }) => name !== "type").map(({ name, value }) => `${name}=${cut(value)}`);
	return `${[`${message}${number}`, ...shown].join(" ")} [${bytes} bytes]${error === undefined ? "" : ` (${error})`}`;
}
