import { styleText } from "node:util";
import type { PolicyResult } from "../study/compare.ts";
import { headerLine } from "./audit-text.ts";
import { policyRows } from "./policy-rows.ts";
import { textTable } from "./table.ts";
import { causeText } from "./verdict.ts";

/** The comparison of policies on one trace as a text table. @param color whether headings are bold */
export function policyText(results: readonly PolicyResult[], color: boolean): string {
	const heading = (text: string) => (color ? styleText("bold", text, { validateStream: false }) : text);
	const [first] = results;
	if (first === undefined) return "";
	const rows = policyRows(results);
	const lines = [
		["", ...results.map(({ policy }) => policy)],
		...rows.map(({ label, cells }) => [`  ${label}`, ...cells]),
	];
	const [head = "", ...table] = textTable(lines).split("\n");
	const body = table.flatMap((line, i) => {
		const group = rows[i]?.group;
		return group === undefined ? [line] : [heading(group), line];
	});
	const { scenario, platform, device, requests } = first.exposure;
	return [
		heading(
			`${first.workload}: ${requests.toLocaleString("en-US")} requests on ${device} (${scenario}) on ${platform}`,
		),
		...results.map(({ exposure }) => `  ${headerLine(exposure)}`),
		...results.flatMap(({ policy, exposure: { refused, drive } }) => [
			...(refused === null ? [] : [`  ${policy}: refused: ${causeText(refused)}`]),
			...(drive?.crash == null ? [] : [`  ${policy}: crash: ${causeText(drive.crash)}`]),
		]),
		"",
		head,
		...body,
	].join("\n");
}
