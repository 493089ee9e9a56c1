/** What a source file imports, exports and takes from the world, read by a parser of TypeScript. */
import { builtinModules } from "node:module";
import { posix } from "node:path";
import { parseSync } from "rolldown/utils";

/** One name of another module that a file uses. */
export interface Use {
	/** The module as it is written: `./ram.ts`, `node:fs`, `vitest`. */
	readonly specifier: string;
	/** The exported name; "default"; "*": any of them, or none (an import for its effect, a namespace handed on). */
	readonly name: string;
	readonly line: number;
}

/** One name that a file exports. */
export interface Export {
	readonly name: string;
	/** interface, class, function, const, type, enum; "re-export". */
	readonly kind: string;
	readonly line: number;
}

export interface SourceFile {
	readonly path: string;
	readonly uses: readonly Use[];
	readonly exports: readonly Export[];
	/** Names of Node's that stand in the code without an import: process, Buffer. */
	readonly globals: readonly { readonly name: string; readonly line: number }[];
	/** Addresses that are declared as plain numbers: parameters, fields, variables. */
	readonly plainAddresses: readonly { readonly name: string; readonly line: number }[];
	/** Calls of the engine whose result goes nowhere. */
	readonly dropped: readonly { readonly name: string; readonly line: number }[];
	/** Why it could not be read, or null. */
	readonly error: string | null;
}

/** The syntax tree is walked by kind: what the rules need of a node. */
interface Node {
	readonly type: string;
	readonly start: number;
	readonly end: number;
	readonly [field: string]: unknown;
}

function isNode(value: unknown): value is Node {
	return typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
}

function* children(node: Node): Generator<[field: string, child: Node]> {
	for (const [field, value] of Object.entries(node)) {
		if (isNode(value)) yield [field, value];
		else if (Array.isArray(value)) for (const each of value) if (isNode(each)) yield [field, each];
	}
}

const NODE_GLOBALS = new Set(["process", "Buffer", "global", "require", "__dirname", "__filename", "setImmediate"]);

/** Names that addresses have. */
const ADDRESS = /^(gpa|dma|tlb|iova)s?$|(Gpa|Dma|Tlb|Iova)s?$/;

/** Whether a type is number, or one of numbers and others, or an array of them. */
function isOfNumbers(type: Node): boolean {
	const plain = ["TSTypeAnnotation", "TSUnionType", "TSArrayType", "TSTypeOperator", "TSParenthesizedType"];
	if (type.type === "TSNumberKeyword") return true;
	return plain.includes(type.type) && [...children(type)].some(([, child]) => isOfNumbers(child));
}

const KINDS: Readonly<Record<string, string>> = {
	TSInterfaceDeclaration: "interface",
	ClassDeclaration: "class",
	FunctionDeclaration: "function",
	TSDeclareFunction: "function",
	VariableDeclaration: "const",
	TSTypeAliasDeclaration: "type",
	TSEnumDeclaration: "enum",
};

/** What `await import("...")` loads, else null. */
function importOf(node: Node | null): { readonly specifier: string; readonly at: number } | null {
	const inner = node?.type === "ParenthesizedExpression" ? (node.expression as Node) : node;
	const loading = inner?.type === "AwaitExpression" ? (inner.argument as Node) : null;
	const source = loading?.type === "ImportExpression" ? (loading.source as Node) : null;
	return source?.type === "Literal" ? { specifier: String(source.value), at: (loading as Node).start } : null;
}

/** Names of a module that a declaration or a member access takes, or null: perhaps all. */
function namesTaken({ id, property, computed }: Node): readonly string[] | null {
	if (isNode(property)) return computed === true ? null : [nameOf(property)];
	if (!isNode(id) || id.type !== "ObjectPattern") return null;
	const taken = id.properties as Node[];
	const plain = taken.every((each) => each.type === "Property" && each.computed !== true);
	return plain ? taken.map((each) => nameOf(each.key as Node)) : null;
}

/** Name of the engine's export that an expression calls, such as `this.#instance.exports.ramConvert(...)`, or null. */
function engineCall(node: Node): string | null {
	const call = node.type === "UnaryExpression" || node.type === "AwaitExpression" ? (node.argument as Node) : node;
	const callee = call.type === "ChainExpression" ? (call.expression as Node).callee : call.callee;
	if (!isNode(callee) || callee.type !== "MemberExpression") return null;
	const { object, property } = callee as unknown as { object: Node; property: Node };
	const owner = object.type === "MemberExpression" ? nameOf(object.property as Node) : nameOf(object);
	return owner === "exports" ? nameOf(property) : null;
}

/** Whether a module is one of Node's own. */
export function isNodeModule(specifier: string): boolean {
	return specifier.startsWith("node:") || builtinModules.includes(specifier);
}

/** The path that a relative specifier of a file names; null: a package or a module of Node's. */
export function resolved(file: string, specifier: string): string | null {
	if (!specifier.startsWith(".")) return null;
	const path = posix.join(posix.dirname(file), specifier);
	// AssemblyScript knows no extensions in specifiers
	return file.startsWith("assembly/") && !path.endsWith(".ts") ? `${path}.ts` : path;
}

/** Reads one file. path: from the root of the repository */
export function readSource(path: string, text: string): SourceFile {
	const parsed = parseSync(path, text);
	const starts = [0];
	for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
	const lineOf = (at: number) => starts.findLastIndex((start) => start <= at) + 1;
	const error = parsed.errors[0]?.message ?? null;
	const reader = new Reader(lineOf);
	reader.module(parsed.program as unknown as Node);
	const { uses, exports, globals, plainAddresses, dropped } = reader;
	return { path, uses, exports, globals, plainAddresses, dropped, error };
}

class Reader {
	readonly uses: Use[] = [];
	readonly exports: Export[] = [];
	readonly globals: { name: string; line: number }[] = [];
	readonly plainAddresses: { name: string; line: number }[] = [];
	readonly dropped: { name: string; line: number }[] = [];
	readonly #lineOf: (at: number) => number;
	/** Local names of `import * as`, and the modules behind them. */
	readonly #namespaces = new Map<string, string>();

	constructor(lineOf: (at: number) => number) {
		this.#lineOf = lineOf;
	}

	module(program: Node): void {
		for (const statement of program.body as Node[]) this.#statement(statement);
		for (const statement of program.body as Node[])
			if (statement.type !== "ImportDeclaration") this.#walk(statement, null, "");
	}

	#use(specifier: string, name: string, at: number): void {
		this.uses.push({ specifier, name, line: this.#lineOf(at) });
	}

	#export(name: string, kind: string, at: number): void {
		this.exports.push({ name, kind, line: this.#lineOf(at) });
	}

	#statement(node: Node): void {
		const specifier = isNode(node.source) ? String(node.source.value) : null;
		switch (node.type) {
			case "ImportDeclaration":
				this.#import(node, specifier as string);
				break;
			case "ExportAllDeclaration":
				this.#use(specifier as string, "*", node.start);
				if (isNode(node.exported)) this.#export(nameOf(node.exported), "re-export", node.start);
				break;
			case "ExportDefaultDeclaration":
				this.#export("default", KINDS[(node.declaration as Node).type] ?? "const", node.start);
				break;
			case "ExportNamedDeclaration":
				if (isNode(node.declaration)) this.#declared(node.declaration);
				for (const each of node.specifiers as Node[]) {
					if (specifier !== null) this.#use(specifier, nameOf(each.local as Node), each.start);
					this.#export(nameOf(each.exported as Node), "re-export", each.start);
				}
				break;
		}
	}

	#import(node: Node, specifier: string): void {
		const names = node.specifiers as Node[];
		if (names.length === 0) this.#use(specifier, "*", node.start);
		for (const each of names) {
			if (each.type === "ImportNamespaceSpecifier") {
				// its members count where they stand; here, that the module is imported
				this.#namespaces.set(nameOf(each.local as Node), specifier);
				this.#use(specifier, "", node.start);
			} else {
				const name = each.type === "ImportDefaultSpecifier" ? "default" : nameOf(each.imported as Node);
				this.#use(specifier, name, each.start);
			}
		}
	}

	#declared(node: Node): void {
		const kind = KINDS[node.type] ?? node.type;
		if (node.type !== "VariableDeclaration") {
			this.#export(nameOf(node.id as Node), kind, node.start);
			return;
		}
		for (const { id } of node.declarations as { id: Node }[])
			for (const name of boundNames(id)) this.#export(name, kind, id.start);
	}

	#walk(node: Node, parent: Node | null, field: string): void {
		switch (node.type) {
			case "VariableDeclarator":
			case "MemberExpression": {
				// of `const { a } = await import(...)` and `(await import(...)).a`, the names that are used are known
				const loading = importOf((node.init ?? node.object) as Node | null);
				const names = loading === null ? null : namesTaken(node);
				if (loading === null || names === null) break;
				for (const name of names) this.#use(loading.specifier, name, loading.at);
				return;
			}
			case "ImportExpression": {
				const source = node.source as Node;
				if (source.type === "Literal") this.#use(String(source.value), "*", node.start);
				break;
			}
			case "TSImportType":
				this.#importType(node);
				break;
			case "Identifier":
				this.#identifier(node, parent, field);
				break;
			case "ExpressionStatement": {
				const name = engineCall(node.expression as Node);
				if (name !== null) this.dropped.push({ name, line: this.#lineOf(node.start) });
				break;
			}
		}
		this.#address(node);
		const namespace = this.#memberOfNamespace(node);
		if (namespace !== null) this.#use(namespace.specifier, namespace.member, node.start);
		else for (const [name, child] of children(node)) this.#walk(child, node, name);
	}

	/** `layout.NAME` of an `import * as layout`, in code or in a type. */
	#memberOfNamespace(node: Node): { readonly specifier: string; readonly member: string } | null {
		const [object, member] =
			node.type === "MemberExpression" && node.computed !== true
				? [node.object as Node, node.property as Node]
				: node.type === "TSQualifiedName"
					? [node.left as Node, node.right as Node]
					: [null, null];
		const specifier = object?.type === "Identifier" ? this.#namespaces.get(nameOf(object)) : undefined;
		return specifier === undefined ? null : { specifier, member: nameOf(member as Node) };
	}

	#address(node: Node): void {
		const declared = isNode(node.key) ? node.key : node;
		const name = declared.type === "Identifier" ? nameOf(declared) : "";
		if (ADDRESS.test(name) && isNode(node.typeAnnotation) && isOfNumbers(node.typeAnnotation))
			this.plainAddresses.push({ name, line: this.#lineOf(node.start) });
	}

	#identifier(node: Node, parent: Node | null, field: string): void {
		const name = nameOf(node);
		const isGlobal = parent?.type === "MemberExpression" && nameOf(parent.object as Node) === "globalThis";
		const isKey = (field === "property" || field === "key") && parent?.computed !== true;
		if ((isKey && !isGlobal) || field === "label") return;
		const namespace = this.#namespaces.get(name);
		// handed on as a whole
		if (namespace !== undefined) this.#use(namespace, "*", node.start);
		if (NODE_GLOBALS.has(name)) this.globals.push({ name, line: this.#lineOf(node.start) });
	}

	#importType(node: Node): void {
		let qualifier = node.qualifier as Node | null;
		while (qualifier?.type === "TSQualifiedName") qualifier = qualifier.left as Node;
		this.#use(String((node.source as Node).value), qualifier === null ? "*" : nameOf(qualifier), node.start);
	}
}

function nameOf(node: Node): string {
	return String(node.name ?? node.value);
}

function boundNames(pattern: Node): string[] {
	switch (pattern.type) {
		case "Identifier":
			return [nameOf(pattern)];
		case "ObjectPattern":
			return (pattern.properties as Node[]).flatMap((each) => boundNames((each.value ?? each.argument) as Node));
		case "ArrayPattern":
			return (pattern.elements as (Node | null)[]).flatMap((each) => (each === null ? [] : boundNames(each)));
		case "AssignmentPattern":
			return boundNames(pattern.left as Node);
		default:
			return [];
	}
}
