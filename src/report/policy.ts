/** A policy in words: whose rules it changes, what it takes for a device's being trusted, and where it is from. */
import { KERNELS } from "../coco/rules/kernel.ts";
import type { Acceptance } from "../coco/rules/policy.ts";
import type { Reference } from "../coco/rules/reference.ts";
import type { NamedModifier, PolicyHeader } from "../study/matrix.ts";
import type { Words } from "./model.ts";

const ACCEPTANCE: Readonly<Record<Acceptance, string>> = {
	none: "no acceptance",
	offer: "acceptance from the offer",
	tdisp: "acceptance from TDISP",
	any: "acceptance from the offer or TDISP",
	driver: "acceptance by the driver's own word",
};

type Rules = Pick<PolicyHeader, "kernel" | "acceptance" | "asks">;

export function rulesText({ kernel, acceptance, asks }: Rules): string {
	return `rules of ${KERNELS[kernel].title}; ${ACCEPTANCE[acceptance]}${asks === null ? "" : `: ${asks}`}`;
}

/** The same in a few characters. */
export function rulesBrief({ kernel, acceptance }: Rules): string {
	return `${KERNELS[kernel].release}, ${acceptance}`;
}

/** The policy in a line, and what was added to it. */
export function policyTitle({ name, title, modifiers }: Pick<PolicyHeader, "name" | "title" | "modifiers">): string {
	return [`${name}: ${title}`, ...modifiers.map((modifier) => `+${modifier.name}: ${modifier.title}`)].join("; ");
}

/** A mail, a commit, a file or a page: what is known of it, and its address where there is one. */
function referenceWords({ kind, title, by, date, lists = [], messageId, url }: Reference): Words {
	const facts = [
		by,
		date,
		lists.length === 0 ? undefined : `lists ${lists.join(", ")}`,
		messageId === undefined ? (kind === "mail" ? "Message-ID not known" : undefined) : `Message-ID ${messageId}`,
	].filter((fact) => fact !== undefined);
	const behind = facts.length === 0 ? "" : ` (${facts.join("; ")})`;
	return [`${kind}: `, url === undefined ? title : { text: title, link: url }, behind];
}

/** What a modifier's own lines say: where it is from. */
export function modifierLines({ source, references }: Pick<NamedModifier, "source" | "references">): Words[] {
	return [`source: ${source}`, ...references.map(referenceWords)];
}

/** What is said below a policy's title. */
export function policyLines(policy: PolicyHeader): Words[] {
	const { asks, asksAlike, changes, modifiers } = policy;
	return [
		rulesText(policy),
		...modifierLines(policy),
		...(asksAlike.length === 0 ? [] : [`asks ${asks}, as ${asksAlike.join(", ")} of the same mail do`]),
		...changes.map(({ call, does, references }): Words => {
			const at = references.flatMap(({ title, url }) => [", ", url === undefined ? title : { text: title, link: url }]);
			return [`changes `, { code: call }, `: ${does}`, ...at];
		}),
		...modifiers.flatMap(({ name, ...modifier }) =>
			modifierLines(modifier).map((words): Words => [`+${name}: `, ...(typeof words === "string" ? [words] : words)]),
		),
	];
}
