/** One linear memory for guests that live one after the other: making a new one costs more than what a cell runs in it. */
import { alignBlock } from "../../assembly/layout/context.ts";
import { Guest, type GuestOptions } from "../coco/guest/guest.ts";
import { Engine } from "../engine.ts";
import { ramStretches } from "../memory/stretches.ts";
import { behindContext, OWNED_CONTEXT_PTR } from "../setup.ts";
import { createMemory } from "../wasm.ts";

export class GuestArena {
	#memory: WebAssembly.Memory | null = null;

	/** The options of a guest that takes this memory over, zeroed; the guest that had it before is not to be used again. */
	place(options: GuestOptions): GuestOptions {
		const contextBytes = Guest.contextBytes(options);
		let end = behindContext(contextBytes);
		const ram = ramStretches(options.ram).map(({ gpa, bytes }) => {
			const ptr = end;
			end += bytes;
			return { gpa, bytes, ptr };
		});
		const { build, auditEvents } = options;
		const audits = build === "engine.audit";
		const audit = audits
			? {
					ptr: alignBlock(end),
					bytes: Engine.auditBytes({ ram, swiotlb: null, ...(auditEvents === undefined ? {} : { auditEvents }) }),
				}
			: null;
		if (audit !== null) end = audit.ptr + audit.bytes;
		return {
			...options,
			ram,
			memory: this.#zeroed(end),
			context: { ptr: OWNED_CONTEXT_PTR, bytes: contextBytes },
			...(audit === null ? {} : { audit }),
		};
	}

	#zeroed(bytes: number): WebAssembly.Memory {
		if (this.#memory === null || this.#memory.buffer.byteLength < bytes) {
			this.#memory = createMemory(bytes, false);
			return this.#memory;
		}
		new Uint8Array(this.#memory.buffer, 0, bytes).fill(0);
		return this.#memory;
	}
}
