/** The rules of the house, over what its files import and export. */
import { ANSWERLESS, BINARIES, BUILDER, DOORS, FLOORS, INSIDE, ON_NODE, ON_NODE_ALONE } from "./floors.ts";
import { isNodeModule, readSource, resolved, type SourceFile } from "./reader.ts";

/** A broken rule, and where. */
export interface Violation {
	readonly path: string;
	readonly line: number;
	readonly rule: string;
	readonly text: string;
}

/** A violation as people read it. */
export function violationLine({ path, line, rule, text }: Violation): string {
	return `${path}:${line}: ${rule}: ${text}`;
}

/** Every rule that the files break. files: text by path from the repository's root */
export function violationsOf(files: ReadonlyMap<string, string>): Violation[] {
	const house = new House([...files].map(([path, text]) => readSource(path, text)));
	return [
		...house.unread(),
		...house.arrows(),
		...house.circles(),
		...house.unused(),
		...house.namesakes(),
		...house.plainAddresses(),
		...house.dropped(),
	];
}

function isIn(path: string, rooms: readonly string[]): boolean {
	return rooms.some((room) => path === room || path.startsWith(`${room}/`));
}

function isDoor(path: string): boolean {
	return isIn(path, [DOORS]);
}

function isTest(path: string): boolean {
	return isIn(path, ["test"]);
}

/** Number of the floor that a room's file stands on, or -1. */
function roomFloor(path: string): number {
	const named = FLOORS.findIndex((room) => typeof room !== "string" && room.includes(path));
	if (named >= 0) return named;
	let best = -1;
	for (const [i, room] of FLOORS.entries()) {
		if (typeof room !== "string" || !isIn(path, [room])) continue;
		if (best < 0 || room.length > (FLOORS[best] as string).length) best = i;
	}
	return best;
}

function roomName(path: string): string {
	const room = FLOORS[roomFloor(path)];
	if (isDoor(path) || room === undefined) return path;
	return typeof room === "string" ? `${room}/` : room.join(", ");
}

class House {
	readonly #sources: readonly SourceFile[];
	readonly #paths: ReadonlySet<string>;
	readonly #floors: ReadonlyMap<string, number>;

	constructor(sources: readonly SourceFile[]) {
		this.#sources = sources;
		this.#paths = new Set(sources.map(({ path }) => path));
		this.#floors = new Map(
			sources.map((source) => [source.path, isDoor(source.path) ? doorFloor(source) : roomFloor(source.path)]),
		);
	}

	/** Files that do not parse, or stand in no room. */
	unread(): Violation[] {
		return this.#sources.flatMap(({ path, error }) => {
			if (error !== null) return [{ path, line: 1, rule: "unread", text: `it does not parse: ${error}` }];
			if ((this.#floors.get(path) as number) >= 0) return [];
			return [{ path, line: 1, rule: "no room", text: "it stands in no room of the list of floors" }];
		});
	}

	/** Arrows that go up, to a door above, to a file that is not there, to the engine's source, or to Node. */
	arrows(): Violation[] {
		return this.#sources.flatMap((source) => {
			const { path, uses, globals } = source;
			const found = new Map<string, Violation>();
			const say = (line: number, broken: readonly [rule: string, text: string] | null) => {
				const key = broken?.join();
				if (broken === null || key === undefined || found.has(key)) return;
				found.set(key, { path, line, rule: broken[0], text: broken[1] });
			};
			for (const { specifier, line } of uses) {
				const target = resolved(path, specifier);
				say(line, target === null ? outward(path, specifier) : this.#inward(path, target));
			}
			if (!isIn(path, ON_NODE)) {
				for (const { name, line } of globals) {
					if (name !== "process" || !ON_NODE_ALONE.includes(path))
						say(line, ["node", `it uses ${name}, and only node/ and cli/ know Node`]);
				}
			}
			return [...found.values()];
		});
	}

	#inward(path: string, target: string): readonly [rule: string, text: string] | null {
		if (!this.#paths.has(target)) return ["no file", `it imports ${target}, and there is no such file`];
		const own = this.#floors.get(path) as number;
		const floor = this.#floors.get(target) as number;
		if (own < 0) return null;
		if (isTest(path) && isDoor(target)) return ["door", `it imports the door ${target}; a test imports rooms`];
		if (floor > own && isDoor(target))
			return ["door", `${roomName(path)} imports the door ${target}, which stands above it`];
		if (floor > own) return ["upward", `${roomName(path)} imports ${target}, and ${roomName(target)} stands above it`];
		if (path.startsWith("src/") && target.startsWith("assembly/") && !isIn(target, ["assembly/layout"]))
			return ["engine", `it imports ${target}; of the engine's source only assembly/layout/ is for both sides`];
		return null;
	}

	/** Circles of files: each said once. Rooms have none where no arrow goes up. */
	circles(): Violation[] {
		const said = new Set<string>();
		return this.#sources.flatMap(({ path, uses }) => {
			const circle = said.has(path) ? null : this.#circleOf(path);
			if (circle === null) return [];
			for (const each of circle) said.add(each);
			const line = uses.find(({ specifier }) => resolved(path, specifier) === circle[1])?.line ?? 1;
			return [{ path, line, rule: "circle", text: circle.join(" -> ") }];
		});
	}

	readonly #targets = new Map<string, ReadonlySet<string>>();

	#targetsOf(path: string): ReadonlySet<string> {
		let targets = this.#targets.get(path);
		if (targets === undefined) {
			const uses = this.#sources.find((source) => source.path === path)?.uses ?? [];
			targets = new Set(uses.flatMap(({ specifier }) => resolved(path, specifier) ?? []));
			this.#targets.set(path, targets);
		}
		return targets;
	}

	/** A shortest way from a file back to itself, the file at both ends; or null. */
	#circleOf(path: string): string[] | null {
		const before = new Map<string, string>();
		const queue = [path];
		for (const at of queue) {
			for (const next of this.#targetsOf(at)) {
				if (before.has(next)) continue;
				before.set(next, at);
				queue.push(next);
				if (next !== path) continue;
				const way = [path];
				for (let step = at; step !== path; step = before.get(step) as string) way.unshift(step);
				return [path, ...way];
			}
		}
		return null;
	}

	/**
	 * Exports that neither a door nor code uses. A test's use does not count: what only tests need is tested through what uses
	 * it, or belongs to the tests.
	 */
	unused(): Violation[] {
		const used = new Map<string, Set<string>>();
		for (const { path, uses } of this.#sources) {
			for (const { specifier, name } of uses) {
				const target = resolved(path, specifier);
				if (isTest(path) && !(target !== null && BUILDER.includes(target))) continue;
				if (target !== null) used.set(target, (used.get(target) ?? new Set()).add(name));
			}
		}
		return this.#sources.flatMap(({ path, exports }) => {
			const names = used.get(path) ?? new Set();
			if (isTest(path) || isDoor(path) || BINARIES.includes(path) || names.has("*")) return [];
			// a value and its type may share a name
			const idle = new Map(exports.filter(({ name }) => !names.has(name)).map((one) => [one.name, one]));
			return [...idle.values()].map(({ name, kind, line }) => {
				return { path, line, rule: "unused", text: `neither a door nor code uses the ${kind} ${name}` };
			});
		});
	}

	/** Exported classes and types of the library that share a name. */
	namesakes(): Violation[] {
		const first = new Map<string, string>();
		return this.#sources.flatMap(({ path, exports }) =>
			exports.flatMap(({ name, kind, line }) => {
				if (!path.startsWith("src/") || !["class", "interface", "type", "enum"].includes(kind)) return [];
				const other = first.get(name);
				if (other === undefined) first.set(name, path);
				if (other === undefined) return [];
				return [{ path, line, rule: "namesake", text: `the ${kind} ${name} shares its name with the one of ${other}` }];
			}),
		);
	}

	/** Statuses of the engine that nobody looks at. */
	dropped(): Violation[] {
		return this.#sources.flatMap(({ path, dropped }) =>
			dropped.flatMap(({ name, line }) => {
				if (!isIn(path, ["src"]) || ANSWERLESS.includes(name)) return [];
				return [{ path, line, rule: "status", text: `what ${name}() answers is ignored` }];
			}),
		);
	}

	/** Addresses without their brand. */
	plainAddresses(): Violation[] {
		return this.#sources.flatMap(({ path, plainAddresses }) =>
			plainAddresses.flatMap(({ name, line }) => {
				if (!path.startsWith("src/")) return [];
				return [{ path, line, rule: "brand", text: `${name} is an address, and declared as a plain number` }];
			}),
		);
	}
}

/** A door stands right above the highest room that it opens. */
function doorFloor({ path, uses }: SourceFile): number {
	const floors = uses.map(({ specifier }) => roomFloor(resolved(path, specifier) ?? ""));
	return Math.max(...floors) + 0.5;
}

/** What is wrong with the import of a package or a module of Node's, or null. */
function outward(path: string, specifier: string): readonly [rule: string, text: string] | null {
	if (isIn(path, ON_NODE) || BUILDER.includes(path)) return null;
	if (isNodeModule(specifier)) return ["node", `it imports ${specifier}, and only node/ and cli/ know Node`];
	if (INSIDE.some(([file, name]) => file === path && name === specifier)) return null;
	return ["package", `it imports ${specifier}; only node/ and cli/ may need a package that is not inside`];
}
