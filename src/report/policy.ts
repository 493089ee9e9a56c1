/** A policy in words: whose rules it changes, and what it takes for a device's being trusted. */
import { KERNELS } from "../coco/rules/kernel.ts";
import type { Acceptance } from "../coco/rules/policy.ts";
import type { PolicyHeader } from "../study/matrix.ts";

const ACCEPTANCE: Readonly<Record<Acceptance, string>> = {
	none: "no acceptance",
	offer: "acceptance from the offer",
	tdisp: "acceptance from TDISP",
	any: "acceptance from the offer or TDISP",
	driver: "acceptance by the driver's own word",
};

type Rules = Pick<PolicyHeader, "kernel" | "acceptance">;

export function rulesText({ kernel, acceptance }: Rules): string {
	return `rules of ${KERNELS[kernel].title}; ${ACCEPTANCE[acceptance]}`;
}

/** The same in a few characters. */
export function rulesBrief({ kernel, acceptance }: Rules): string {
	return `${KERNELS[kernel].release}, ${acceptance}`;
}

/** The policy in a line. */
export function policyTitle({ name, title }: Pick<PolicyHeader, "name" | "title">): string {
	return `${name}: ${title}`;
}

/** What is said below its title. */
export function policyLines(policy: Rules & Pick<PolicyHeader, "source">): string[] {
	return [rulesText(policy), `source: ${policy.source}`];
}
