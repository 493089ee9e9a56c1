import { afterEach, describe, expect, it, vi } from "vitest";
import { Engine } from "../../src/engine.ts";

describe("a host", () => {
	afterEach(() => {
		vi.unstubAllGlobals();
		vi.restoreAllMocks();
	});

	it("that may share no memory is told which headers its pages need", async () => {
		vi.stubGlobal("crossOriginIsolated", false);
		await expect(Engine.create({ ram: "1M", swiotlb: null, build: "engine.threads" })).rejects.toThrow(
			/not isolated: serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp$/,
		);
		await expect(Engine.create({ ram: "1M", swiotlb: null })).resolves.toBeInstanceOf(Engine);
	});

	it("that lacks memory is told how much is needed", async () => {
		class NoMemory {
			constructor() {
				throw new RangeError("WebAssembly.Memory(): could not allocate memory");
			}
		}
		vi.spyOn(WebAssembly, "Memory").mockImplementation(NoMemory as never);
		await expect(Engine.create({ ram: "1M", swiotlb: null })).rejects.toThrow(
			/^a memory of \d{7} bytes is needed, and the host gives none of that size: less RAM would fit$/,
		);
	});
});
