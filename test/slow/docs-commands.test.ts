import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { coco } from "../helpers/cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

describe("what people read", () => {
	it.each([
		["modes", "README.md", "on nvme", []],
		[
			"policies",
			"docs/compare.md",
			"13,990 requests on storvsc",
			["--policy", "rfc-v3,paravisor-bounce,cc-accepted-bus,linux-7.3+share-in-place"],
		],
	])(
		"shows lines of a result that compare prints, of %s: counts to the digit, times by their rows",
		async (_, page, head, options) => {
			const text = readFileSync(`${ROOT}${page}`, "utf8");
			const blocks = [...text.matchAll(/```text\n(bench\/traces[\s\S]*?)```/g)].map(([, block]) => block as string);
			const shown = (blocks.find((text) => text.includes(head)) ?? "").trimEnd().split("\n");
			const trace = "bench/traces/pgbench.block.ftrace.txt.gz";
			const printed = (await coco("compare", trace, "--repeat", "1", ...options)).out.split("\n");
			const label = (line: string) => line.slice(0, 33).trimEnd();
			const squeezed = (line: string) => line.replace(/ +/g, " ");
			expect(shown.length).toBeGreaterThan(9);
			for (const line of shown) {
				if (/\d ns|, ns|GB\/s|against the first|quartiles/.test(line))
					expect(printed.map(label)).toContain(label(line));
				else expect(printed.map(squeezed)).toContain(squeezed(line));
			}
		},
	);

	it.each(["README.md", "docs/trust.md", "docs/vmbus.md", "docs/policies.md", "docs/audit-command.md"])(
		"shows of the commands in %s what they print",
		async (name) => {
			const text = readFileSync(`${ROOT}${name}`, "utf8");
			const shown = [
				...text.matchAll(/```console\n\$ npx coco-dma ([^|\n]*?)(?: \| (head|tail) -n (\d+))?\n([\s\S]*?)```/g),
			];
			expect(shown.length).toBe(text.split("```console").length - 1);
			for (const [, command, end, count, output] of shown) {
				const lines = (await coco(...(command as string).split(" "))).out.split("\n");
				const part =
					end === undefined
						? lines
						: end === "head"
							? [...lines.slice(0, Number(count)), ""]
							: lines.slice(-1 - Number(count));
				expect(part.join("\n"), command).toBe(output);
			}
		},
	);
});
