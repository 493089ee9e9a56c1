/**
 * The records in linear memory, as assembly/layout/ declares them: `export const NAME: At<T> = OFFSET` is a field. Above the
 * fields of a record, or of a stretch of one, stands its drawing, which names the constant that holds the record's size:
 *
 *   AREA_BYTES 0..15
 *       0            4            8            12
 *     0 │ LOCK       │ USED       │ INDEX      │ ALLOWANCE  │
 *
 * and, for a word whose bits mean several things, one line: `RECORD_MAPPED bits: bytes 0..18 │ OFFSET 19..29 │ DIR 30..31`.
 * The build refuses fields that overlap, are not aligned, or leave their stretch; drawings that show anything else; and code that
 * reads or writes a field in another width. `npx jiti records.ts --write` draws anew.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "rolldown/utils";

const TYPE_BYTES: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8, i64: 8, f64: 8 };
const ROW_BYTES = 16;

/** Sources by path. */
type Sources = ReadonlyMap<string, string>;

interface Field {
	readonly name: string;
	readonly type: string;
	readonly bytes: number;
	readonly offset: number;
	readonly line: number;
}

/** A word's bits, as their line says. */
interface Bits {
	readonly word: string;
	readonly cells: readonly { readonly name: string; readonly first: number; readonly last: number }[];
	readonly line: number;
}

/** A stretch of a record, as its drawing delimits it. */
interface Stretch {
	readonly file: string;
	/** The constant that holds the record's size, or its log2. */
	readonly size: string;
	readonly first: number;
	/** First byte behind the stretch. */
	readonly end: number;
	readonly line: number;
	/** The drawing as it stands: from where to where in the source. */
	readonly drawing: { readonly start: number; readonly end: number };
	readonly fields: Field[];
	readonly bits: Bits[];
	/** Other whole-number constants below the drawing, by name. */
	readonly constants: Map<string, number>;
}

interface Node {
	readonly type: string;
	readonly start: number;
	readonly end: number;
	// biome-ignore lint/suspicious/noExplicitAny: a syntax tree, read by kind
	readonly [key: string]: any;
}

interface Parsed {
	readonly body: readonly Node[];
	readonly comments: readonly Node[];
}

function parse(path: string, text: string): Parsed {
	const { errors, program, comments } = parseSync(path, text);
	if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
	return { body: program.body as unknown as Node[], comments: comments as unknown as Node[] };
}

function lineOf(text: string, at: number): number {
	return text.slice(0, at).split("\n").length;
}

/** The value of a constant's initializer, of numbers, names that are known and operators, or NaN. */
function evaluate(node: Node, known: ReadonlyMap<string, number>): number {
	if (node.type === "Literal") return typeof node.value === "number" ? node.value : Number.NaN;
	if (node.type === "Identifier") return known.get(node.name) ?? Number.NaN;
	if (node.type !== "BinaryExpression") return Number.NaN;
	const [left, right] = [evaluate(node.left, known), evaluate(node.right, known)];
	if (node.operator === "+") return left + right;
	if (node.operator === "-") return left - right;
	return node.operator === "<<" ? left * 2 ** right : Number.NaN;
}

const TITLE = /^ \* {3}([A-Z]\w+) (\d+)\.\.(\d+)$/;
const BITS = /^ \* {3}(\w+) bits: (.+)$/;

/** Reads the stretches of one file. faults: what cannot be read is added */
function readFile(file: string, text: string, known: Map<string, number>, faults: string[]): Stretch[] {
	const { body, comments } = parse(file, text);
	const fault = (line: number, what: string) => faults.push(`${file}:${line}: ${what}`);
	const stretches: Stretch[] = [];
	const titles: { at: number; open: () => void }[] = [];
	for (const comment of comments) {
		const lines = text.slice(comment.start, comment.end).split("\n");
		let at = comment.start;
		for (const [i, line] of lines.entries()) {
			const start = at;
			at += line.length + 1;
			const number = lineOf(text, start);
			const cells = BITS.exec(line);
			if (cells !== null) {
				const read = readBits(cells[1] as string, cells[2] as string, number);
				if (read === null) fault(number, "bits are written as NAME first..last, one behind the other, from 0 on");
				else titles.push({ at: start, open: () => void stretches.at(-1)?.bits.push(read) });
			}
			const title = TITLE.exec(line);
			if (title === null) continue;
			let end = at;
			for (const next of lines.slice(i + 1)) {
				if (!/^ \* {3,}[\d…]/.test(next) || BITS.test(next)) break;
				end += next.length + 1;
			}
			const stretch = {
				...{ file, size: title[1] as string, first: Number(title[2]), end: Number(title[3]) + 1, line: number },
				...{ drawing: { start, end }, fields: [], bits: [], constants: new Map() },
			};
			titles.push({ at: start, open: () => stretches.push(stretch) });
		}
	}
	const statements = body.map(
		(node) => (node.type === "ExportNamedDeclaration" ? node.declaration : node) as Node | null,
	);
	for (const node of statements) {
		if (node?.type !== "VariableDeclaration" || node.kind !== "const") continue;
		while (titles[0] !== undefined && titles[0].at < node.start) titles.shift()?.open();
		const [{ id, init }] = node.declarations;
		const { name, typeAnnotation } = id as { name: string; typeAnnotation: Node | null };
		const line = lineOf(text, node.start);
		const value = evaluate(init, known);
		known.set(name, value);
		const reference = typeAnnotation?.typeAnnotation;
		if (reference?.typeName?.name !== "At") {
			stretches.at(-1)?.constants.set(name, value);
			continue;
		}
		const type: string = reference.typeArguments?.params[0]?.typeName?.name ?? "";
		const bytes = TYPE_BYTES[type];
		if (bytes === undefined) fault(line, `${name}: expected At<${Object.keys(TYPE_BYTES).join("|")}>`);
		else if (!Number.isSafeInteger(value) || value < 0) fault(line, `${name}: expected an offset in bytes`);
		else if (stretches.length === 0) fault(line, `${name}: a field stands below its record's drawing`);
		else stretches.at(-1)?.fields.push({ name, type, bytes, offset: value, line });
	}
	for (const title of titles) title.open();
	return stretches;
}

/** Reads `bytes 0..18 │ OFFSET 19..29`, without a gap from 0 on, or answers null. */
function readBits(word: string, text: string, line: number): Bits | null {
	let next = 0;
	const cells = [];
	for (const cell of text.split(" │ ")) {
		const [, name, first, last] = /^(.+) (\d+)(?:\.\.(\d+))?$/.exec(cell) ?? [];
		if (name === undefined || Number(first) !== next || Number(last ?? first) < next) return null;
		next = Number(last ?? first) + 1;
		cells.push({ name, first: Number(first), last: next - 1 });
	}
	return { word, cells, line };
}

/** A record's bytes by the constant that its drawings name: a size, or the log2 of one. */
function sizeOf(stretch: Stretch, known: ReadonlyMap<string, number>): number {
	const value = known.get(stretch.size) ?? Number.NaN;
	return stretch.size.endsWith("_SHIFT") ? 2 ** value : value;
}

/** The prefix that all names share, up to an underscore. */
function prefixOf(names: readonly string[]): string {
	const [first = ""] = names;
	let length = first.lastIndexOf("_") + 1;
	while (length > 0 && !names.every((name) => name.startsWith(first.slice(0, length)) && name.length > length))
		length = first.lastIndexOf("_", length - 2) + 1;
	return first.slice(0, length);
}

/** Columns of one byte: enough for every name in its field. */
function columnsOf(fields: readonly Field[], prefix: string): number {
	const room = ({ name, bytes }: Field) => name.length - prefix.length + (bytes < 4 ? 1 : 3);
	return Math.max(3, ...fields.map((field) => Math.ceil(room(field) / field.bytes)));
}

/** The drawing of a stretch: its title, the columns' bytes, and a row for each 16 bytes that are not all free. */
function draw({ size, first, end, fields }: Stretch): string {
	const prefix = prefixOf(fields.map(({ name }) => name));
	const columns = columnsOf(fields, prefix);
	const gutter = Math.max(3, String(end - 1).length) + 1;
	const cell = (text: string, bytes: number) => {
		const room = bytes * columns - 1;
		return `│${text.length < room ? ` ${text}`.padEnd(room) : text}`;
	};
	const rows: string[] = [];
	const firstRow = first - (first % ROW_BYTES);
	let skipped = false;
	for (let row = firstRow; row < end; row += ROW_BYTES) {
		const here = fields.filter(({ offset }) => offset >= row && offset < row + ROW_BYTES);
		if (here.length === 0 && row > firstRow && row + ROW_BYTES < end) {
			skipped = true;
			continue;
		}
		if (skipped) rows.push("…".padStart(gutter - 1));
		skipped = false;
		let text = "";
		let at = row;
		for (const { name, offset, bytes } of [...here].sort((a, b) => a.offset - b.offset)) {
			if (offset > at) text += cell("", offset - at);
			text += cell(name.slice(prefix.length), bytes);
			at = offset + bytes;
		}
		const rowEnd = Math.min(end, row + ROW_BYTES);
		if (rowEnd > at) text += cell("", rowEnd - at);
		rows.push(`${String(row).padStart(gutter - 1)} ${text}│`);
	}
	const heads = [0, 4, 8, 12].filter((byte) => byte < Math.min(ROW_BYTES, end - firstRow));
	const head = heads.map((byte) => String(byte).padEnd(4 * columns)).join("");
	const lines = [`${size} ${first}..${end - 1}`, " ".repeat(gutter) + head.trimEnd(), ...rows];
	return lines.map((line) => ` *   ${line}\n`).join("");
}

/** What overlaps, is not aligned, or leaves its stretch. */
function placeFaults(stretches: readonly Stretch[], known: ReadonlyMap<string, number>): string[] {
	const faults: string[] = [];
	const records = new Map<string, Stretch[]>();
	for (const stretch of stretches) records.set(stretch.size, [...(records.get(stretch.size) ?? []), stretch]);
	for (const [size, parts] of records) {
		const bytes = sizeOf(parts[0] as Stretch, known);
		let next = 0;
		for (const { file, line, first, end } of [...parts].sort((a, b) => a.first - b.first)) {
			if (!Number.isSafeInteger(bytes)) faults.push(`${file}:${line}: ${size} is no constant that is known`);
			else if (first !== next)
				faults.push(`${file}:${line}: the drawings of ${size} do not lie end to end at byte ${next}`);
			next = end;
		}
		const last = parts.at(-1) as Stretch;
		if (Number.isSafeInteger(bytes) && next !== bytes)
			faults.push(`${last.file}:${last.line}: the drawings of ${size} end at byte ${next}, and it is ${bytes}`);
		const owners = new Map<number, string>();
		for (const part of parts) {
			for (const { name, offset, bytes: width, line } of part.fields) {
				const fault = (what: string) => faults.push(`${part.file}:${line}: ${name} ${what}`);
				if (offset % width !== 0) fault(`lies at ${offset}, no multiple of its ${width} bytes`);
				if (offset < part.first || offset + width > part.end)
					fault(`lies at ${offset}..${offset + width - 1}, outside ${part.first}..${part.end - 1}`);
				const others = new Set<string>();
				for (let byte = offset; byte < offset + width; byte++) {
					const other = owners.get(byte);
					if (other !== undefined) others.add(other);
					owners.set(byte, name);
				}
				for (const other of others) fault(`overlaps ${other}`);
			}
		}
	}
	return faults;
}

/** Lines of bits that do not fit their word, or the constants below them. */
function bitFaults({ file, fields, bits, constants }: Stretch): string[] {
	return bits.flatMap(({ word, cells, line }) => {
		const faults: string[] = [];
		const fault = (what: string) => faults.push(`${file}:${line}: ${word}: ${what}`);
		const width = (cells.at(-1)?.last ?? 0) + 1;
		const field = fields.find(({ name }) => name === word);
		if (field !== undefined && width !== field.bytes * 8) fault(`its bits are ${width}, and it is a ${field.type}`);
		for (const { name, first, last } of cells) {
			if (name !== name.toUpperCase()) continue;
			const find = (ending: string) =>
				[...constants].find(([key]) => key === `${name}_${ending}` || key.endsWith(`_${name}_${ending}`));
			const [shift, mask] = [find("SHIFT"), find("MASK")];
			if (shift === undefined && mask === undefined) fault(`there is no constant ${name}_SHIFT or ${name}_MASK`);
			if (shift !== undefined && shift[1] !== first)
				fault(`${name} begins at bit ${first}, and ${shift[0]} is ${shift[1]}`);
			if (mask !== undefined && mask[1] !== 2 ** (last - first + 1) - 1)
				fault(`${name} has ${last - first + 1} bits, and ${mask[0]} is ${mask[1]}`);
		}
		return faults;
	});
}

/** A load or store of a field. */
interface Access {
	readonly field: string;
	readonly type: string;
	readonly line: number;
	readonly loads: boolean;
}

function accessesOf(path: string, text: string, fields: ReadonlyMap<string, unknown>): Access[] {
	const found: Access[] = [];
	const named = (node: Node | undefined): string | null => {
		if (node?.type === "BinaryExpression" && node.operator === "+") return named(node.right);
		return node?.type === "Identifier" && fields.has(node.name) ? node.name : null;
	};
	const visit = (node: unknown): void => {
		if (Array.isArray(node)) for (const each of node) visit(each);
		if (typeof node !== "object" || node === null || Array.isArray(node)) return;
		const { type, callee, typeArguments, arguments: args, start } = node as Node;
		if (type === "CallExpression" && typeArguments != null) {
			const isAtomic = callee.type === "MemberExpression" && callee.object.name === "atomic";
			const operation: string = isAtomic ? callee.property.name : callee.name;
			if (isAtomic || operation === "load" || operation === "store") {
				// the offset is the last argument, or added to the address
				const field = named(args.at(-1)) ?? named(args[0]);
				const width: string = typeArguments.params[0]?.typeName?.name ?? "";
				if (field !== null) found.push({ field, type: width, line: lineOf(text, start), loads: operation === "load" });
			}
		}
		for (const [key, value] of Object.entries(node)) if (key !== "parent") visit(value);
	};
	visit(parse(path, text).body);
	return found;
}

/** Loads and stores in another width than the field's: a wider one has to cover whole fields side by side. */
function accessFaults(sources: Sources, stretches: readonly Stretch[]): string[] {
	const fields = new Map(
		stretches.flatMap((stretch) => stretch.fields.map((field) => [field.name, { field, stretch }])),
	);
	const faults: string[] = [];
	for (const [path, text] of sources) {
		for (const { field: name, type, line } of accessesOf(path, text, fields)) {
			const { field, stretch } = fields.get(name) as { field: Field; stretch: Stretch };
			const width = TYPE_BYTES[type] ?? Number.NaN;
			const floats = (type === "f64") === (field.type === "f64");
			if (width === field.bytes && floats) continue;
			let covered = field.offset;
			for (const { offset, bytes } of [...stretch.fields].sort((a, b) => a.offset - b.offset))
				if (offset === covered && covered < field.offset + width) covered += bytes;
			if (width > field.bytes && type !== "f64" && covered === field.offset + width) continue;
			faults.push(`${path}:${line}: ${name} is a ${field.type}, not a ${type}`);
		}
	}
	return faults;
}

/** Sources that declare fields. */
function declaring(sources: Sources): [path: string, text: string][] {
	return [...sources].filter(([, text]) => /^type At<_T> = usize;$/m.test(text)).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The stretches of all sources that declare fields. */
function readStretches(sources: Sources): { stretches: Stretch[]; known: Map<string, number>; faults: string[] } {
	const known = new Map<string, number>();
	const faults: string[] = [];
	const files = declaring(sources);
	// twice: a constant may be made of another file's
	for (const [path, text] of files) readFile(path, text, known, []);
	const stretches = files.flatMap(([path, text]) => readFile(path, text, known, faults));
	return { stretches, known, faults };
}

/** What is wrong with the records of the engine's sources, one line each: file, line, name. */
export function recordFaults(sources: Sources): string[] {
	const { stretches, known, faults } = readStretches(sources);
	for (const stretch of stretches) {
		const { file, line, size, drawing } = stretch;
		if (sources.get(file)?.slice(drawing.start, drawing.end) !== draw(stretch))
			faults.push(`${file}:${line}: the drawing of ${size} is not that of its fields: npx jiti records.ts --write`);
	}
	return [
		...faults,
		...placeFaults(stretches, known),
		...stretches.flatMap(bitFaults),
		...accessFaults(sources, stretches),
	].sort();
}

/** Sources with every drawing as its fields are. */
export function redrawn(sources: Sources): Map<string, string> {
	const out = new Map(sources);
	for (const stretch of readStretches(sources).stretches.reverse()) {
		const text = out.get(stretch.file) as string;
		const { start, end } = stretch.drawing;
		out.set(stretch.file, text.slice(0, start) + draw(stretch) + text.slice(end));
	}
	return out;
}

const ROOT = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "./" : "../", import.meta.url));

/** The engine's sources, by their path from the root. */
export function engineSources(): Map<string, string> {
	const paths = readdirSync(join(ROOT, "assembly"), { recursive: true, encoding: "utf8" });
	const sources = paths.filter((path) => path.endsWith(".ts") && !path.endsWith(".d.ts")).sort();
	return new Map(sources.map((path) => [`assembly/${path}`, readFileSync(join(ROOT, "assembly", path), "utf8")]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	if (process.argv[2] === "--write") {
		const before = engineSources();
		for (const [path, text] of redrawn(before)) if (text !== before.get(path)) writeFileSync(join(ROOT, path), text);
	}
	const faults = recordFaults(engineSources());
	for (const fault of faults) process.stderr.write(`${fault}\n`);
	process.exitCode = faults.length === 0 ? 0 : 1;
}
