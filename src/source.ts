/** Input that somebody else wrote: text or bytes, whole or as they come, plain or gzip. */
import { InputError, shown, thrown } from "./input-error.ts";

type Chunk = string | Uint8Array;

/** Text is taken as it is; bytes are UTF-8, and unpacked if they start as gzip does. */
export type Source = Chunk | ReadableStream<Chunk> | AsyncIterable<Chunk>;

/** What a reader may see of an input before it takes it (bytes or characters). */
const HEAD_LENGTH = 2 ** 20;
/** No input that is held as a whole unpacks to more than this (bytes or characters). */
const MAX_TEXT_LENGTH = 256 * 2 ** 20;
/** No input that is read line by line unpacks to more than this (bytes or characters). */
const MAX_STREAM_LENGTH = 4 * 2 ** 30;
/** No gzip unpacks to more than this many times its own bytes: text that people have is far below, a bomb near 1,030. */
const MAX_EXPANSION = 300;
/** Below this it may (bytes). */
const EXPANSION_COUNTS_FROM = 64 * 2 ** 20;
/** No line is longer. */
const MAX_LINE_LENGTH = 2 ** 20;

/** The chunks of a source. @throws RangeError for what is no source */
async function* chunksOf(source: Source, name: string): AsyncGenerator<Chunk> {
	if (typeof source === "string" || source instanceof Uint8Array) {
		yield source;
		return;
	}
	const chunks = chunkIterator(source);
	if (chunks === null)
		throw new RangeError(`${name}: expected text, bytes (Uint8Array), or a stream of either, found ${shown(source)}`);
	for await (const chunk of chunks) {
		if (typeof chunk !== "string" && !(chunk instanceof Uint8Array))
			throw new RangeError(`${name}: expected chunks of text or bytes (Uint8Array), found ${shown(chunk)}`);
		if (chunk.length > 0) yield chunk;
	}
}

function chunkIterator(source: unknown): AsyncIterable<Chunk> | null {
	if (typeof source !== "object" || source === null) return null;
	if (Symbol.asyncIterator in source) return source as AsyncIterable<Chunk>;
	// browsers whose streams cannot be iterated
	return source instanceof ReadableStream ? read(source) : null;
}

async function* read<T>(stream: ReadableStream<T>): AsyncGenerator<T> {
	const reader = stream.getReader();
	try {
		for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
	} finally {
		await reader.cancel();
	}
}

/** Unpacks what starts as gzip does. @throws InputError for a torn or damaged one */
async function* unpacked(chunks: AsyncGenerator<Chunk>, name: string): AsyncGenerator<Chunk> {
	try {
		yield* unpackedChunks(chunks, name);
	} finally {
		await chunks.return(undefined);
	}
}

async function* unpackedChunks(chunks: AsyncGenerator<Chunk>, name: string): AsyncGenerator<Chunk> {
	let first = await chunks.next();
	// the two bytes may come one by one
	if (!first.done && first.value.length === 1 && first.value[0] === 0x1f) {
		const second = await chunks.next();
		if (!second.done) first = { done: false, value: joined(first.value, second.value, name) };
	}
	if (first.done) return;
	const { value } = first;
	if (typeof value === "string" || value[0] !== 0x1f || value[1] !== 0x8b) {
		yield value;
		yield* chunks;
		return;
	}
	/** What the source itself threw. */
	let failure: { readonly error: unknown } | null = null;
	let next: Chunk | null = value;
	let packedBytes = 0;
	let bytes = 0;
	const packed = new ReadableStream<Uint8Array<ArrayBuffer>>({
		async pull(controller) {
			try {
				if (next === null) {
					const more = await chunks.next();
					if (more.done) {
						controller.close();
						return;
					}
					next = more.value;
				}
				if (typeof next === "string") throw new InputError(`${name}: expected bytes of a gzip, found text`);
				packedBytes += next.length;
				controller.enqueue(new Uint8Array(next));
				next = null;
			} catch (error) {
				failure = { error };
				throw error;
			}
		},
	});
	try {
		for await (const chunk of read(packed.pipeThrough(new DecompressionStream("gzip")))) {
			bytes += chunk.length;
			if (bytes > EXPANSION_COUNTS_FROM && bytes > packedBytes * MAX_EXPANSION)
				throw new InputError(
					`${name}: ${packedBytes} bytes of gzip unpack to more than ${MAX_EXPANSION} times as many`,
				);
			yield chunk;
		}
	} catch (error) {
		if (error instanceof InputError) throw error;
		if (failure !== null) throw (failure as { error: unknown }).error;
		throw new InputError(`${name}: torn or damaged gzip (${thrown(error)})`);
	}
}

/** Two chunks as one. @throws InputError for text behind bytes */
function joined(first: Chunk, second: Chunk, name: string): Uint8Array {
	if (typeof first === "string" || typeof second === "string")
		throw new InputError(`${name}: expected bytes behind the first byte, found text`);
	const both = new Uint8Array(first.length + second.length);
	both.set(first);
	both.set(second, first.length);
	return both;
}

/** An input, opened: its beginning may be looked at, then it is taken once, or closed. */
export class Input {
	/** What errors call it. */
	readonly name: string;
	/** Its first MiB, or all of a smaller one; bytes that are no UTF-8 as U+FFFD. */
	readonly head: string;
	readonly #first: readonly Chunk[];
	readonly #rest: AsyncGenerator<Chunk>;

	private constructor(name: string, first: readonly Chunk[], rest: AsyncGenerator<Chunk>) {
		this.name = name;
		this.#first = first;
		this.#rest = rest;
		const decoder = new TextDecoder();
		let head = "";
		for (const chunk of first)
			head += typeof chunk === "string" ? chunk : decoder.decode(chunk.subarray(0, HEAD_LENGTH), { stream: true });
		this.head = head.slice(0, HEAD_LENGTH);
	}

	/**
	 * Opens a source.
	 * @param name what errors call it
	 * @throws RangeError for what is no source; InputError for a torn or damaged gzip; what the source throws
	 */
	static async open(source: Source, name: string): Promise<Input> {
		const rest = unpacked(chunksOf(source, name), name);
		const first: Chunk[] = [];
		for (let length = 0; length < HEAD_LENGTH; ) {
			const { done, value } = await rest.next();
			if (done) break;
			first.push(value);
			length += value.length;
		}
		return new Input(name, first, rest);
	}

	/** Its first bytes: those of `head`. */
	get headBytes(): Uint8Array {
		const [first = ""] = this.#first;
		return typeof first === "string" ? new TextEncoder().encode(first) : first;
	}

	/** Takes all of it, up to a limit. @throws InputError */
	async *#chunks(limit: number): AsyncGenerator<Chunk> {
		let length = 0;
		const counted = (chunk: Chunk): Chunk => {
			length += chunk.length;
			if (length > limit) throw new InputError(`${this.name}: unpacks to more than ${limit} bytes`);
			return chunk;
		};
		try {
			for (const chunk of this.#first) yield counted(chunk);
			for await (const chunk of this.#rest) yield counted(chunk);
		} finally {
			await this.close();
		}
	}

	/** Lets the source go, taken or not. */
	async close(): Promise<void> {
		await this.#rest.return(undefined);
	}

	async *#texts(limit: number): AsyncGenerator<string> {
		const decoder = new TextDecoder();
		for await (const chunk of this.#chunks(limit))
			yield typeof chunk === "string" ? decoder.decode() + chunk : decoder.decode(chunk, { stream: true });
		yield decoder.decode();
	}

	/** Takes all of it as bytes, as they come. @throws InputError for more than 4 GiB, a torn or damaged gzip */
	async *bytes(): AsyncGenerator<Uint8Array> {
		const encoder = new TextEncoder();
		for await (const chunk of this.#chunks(MAX_STREAM_LENGTH))
			yield typeof chunk === "string" ? encoder.encode(chunk) : chunk;
	}

	/**
	 * Takes all of it line by line, in groups as they come: without their ends (LF, or CR LF), the last one also without one.
	 * @throws InputError for more than 4 GiB, a line of more than 1 MiB, a torn or damaged gzip
	 */
	async *lines(): AsyncGenerator<readonly string[]> {
		let open = "";
		let before = 0;
		for await (const text of this.#texts(MAX_STREAM_LENGTH)) {
			const lines = (open + text).split("\n");
			open = lines.pop() as string;
			const long = [...lines, open].findIndex((line) => line.length > MAX_LINE_LENGTH);
			if (long >= 0)
				throw new InputError(`${this.name}:${before + long + 1}: line: expected at most ${MAX_LINE_LENGTH} characters`);
			before += lines.length;
			yield lines.map(withoutReturn);
		}
		if (open !== "") yield [withoutReturn(open)];
	}

	/** Takes all of it as one text. @throws InputError for more than 256 MiB, a torn or damaged gzip */
	async text(): Promise<string> {
		const parts: string[] = [];
		for await (const text of this.#texts(MAX_TEXT_LENGTH)) parts.push(text);
		return parts.join("");
	}
}

function withoutReturn(line: string): string {
	return line.endsWith("\r") ? line.slice(0, -1) : line;
}

/** All of a source as one text. @param name what errors call it @throws as Input.open and Input.text */
export async function textOf(source: Source, name: string): Promise<string> {
	return (await Input.open(source, name)).text();
}
