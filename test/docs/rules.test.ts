import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { KERNELS, type KernelRule } from "../../src/coco/rules/kernel.ts";
import { PREDICATES } from "../../src/coco/rules/predicate.ts";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
	return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** docs/rules.md, from the records and the list that the code runs on. */
function rulesPage(): string {
	const predicates = PREDICATES.map(({ name, call, asked, source }) => [`\`${name}\``, `\`${call}\``, asked, source]);
	const kernels = Object.values(KERNELS);
	const cell = ({ is, says, source }: KernelRule<unknown>) => `${JSON.stringify(is)}: ${says} (${source})`;
	const rules = Object.keys(kernels[0]?.rules ?? {}).map((name) => [
		`\`${name}\``,
		...kernels.map((kernel) => cell(kernel.rules[name as keyof typeof kernel.rules])),
	]);
	return `# Rules

What a kernel decides about DMA, and what a policy may answer in its place. This page is made from \`src/coco/rules/kernel.ts\` and
\`src/coco/rules/predicate.ts\` by \`npx vitest run test/docs/rules.test.ts -u\`.

## Predicates

${table(["in a policy", "in the kernel", "who asks, and what", "source"], predicates)}

## Kernels

${table(["rule", ...kernels.map(({ name, title }) => `${title} (\`${name}\`)`)], rules)}
`;
}

describe("the page of the rules", () => {
	it("lists every predicate, and every rule of every kernel with its source", async () => {
		await expect(rulesPage()).toMatchFileSnapshot(`${DOCS}rules.md`);
	});

	it("is where the other pages send who asks", () => {
		for (const page of ["trust.md", "policies.md"])
			expect(readFileSync(`${DOCS}${page}`, "utf8")).toContain("(rules.md");
	});
});
