/** One variant of a suite in a process of its own (bench/child.ts). */
import { type ChildProcess, fork } from "node:child_process";
import { endWithUs } from "../src/node/children.ts";
import type { Answer, Order } from "./child.ts";
import type { Suite } from "./suite.ts";

export class Variant {
	readonly name: string;
	readonly #child: ChildProcess;

	/** @param child the script, of this build or of another */
	constructor(suite: Suite, name: string, child: URL = new URL("./child.js", import.meta.url)) {
		this.name = name;
		this.#child = fork(child, [suite.name, name], { execArgv: [...(suite.flags?.(name) ?? [])] });
		endWithUs(this.#child);
	}

	ask(order: Order): Promise<Answer> {
		return new Promise((resolve, reject) => {
			const died = (code: number | null) => reject(new Error(`bench: ${this.name}: process ended with ${code}`));
			this.#child.once("exit", died);
			this.#child.once("message", (answer: Answer) => {
				this.#child.off("exit", died);
				if (answer.error === undefined) resolve(answer);
				else reject(new Error(`bench: ${this.name}: ${answer.error}`));
			});
			this.#child.send(order);
		});
	}

	end(): void {
		this.#child.disconnect();
		this.#child.kill();
	}
}
