import { environment } from "../node/environment.ts";
import { readTraceFile } from "../node/input.ts";
import { loadPolicy } from "../node/policy-file.ts";
import { processRunner } from "../node/runner.ts";
import { comparePoliciesReport } from "../report/compare-policies.ts";
import type { ComparePoliciesDocument } from "../report/documents.ts";
import { describeEnvironment } from "../report/environment.ts";
import { renderHtml } from "../report/render/html.ts";
import { renderText } from "../report/render/text.ts";
import { comparePolicies, type PolicyComparison } from "../study/compare.ts";
import { checkRepeat, DEFAULT_REPEAT } from "../study/layout.ts";
import type { Workload } from "../workload/workload.ts";
import { checkOutputs, sayWritten, writeJson, writeOutput } from "./outputs.ts";
import { guestSize, policyPlace, type REPLAY_OPTIONS, traceOptions } from "./replay-options.ts";
import { listOf, mayColor, progress, UsageError, wholeNumber } from "./usage.ts";

/** Runs `coco-dma compare --policy`. @returns the exit code */
export async function comparePolicyCommand(
	traces: readonly string[],
	list: string,
	values: Partial<Record<keyof typeof REPLAY_OPTIONS | "device" | "mode" | "repeat" | "json" | "html", string>>,
): Promise<number> {
	for (const name of ["device", "mode"] as const)
		if (values[name] !== undefined) throw new UsageError(`--${name}: does not go with --policy; see --scenario`);
	const repeat = wholeNumber("repeat", values.repeat) ?? DEFAULT_REPEAT;
	checkRepeat(repeat);
	const asked = { ...policyPlace(values), ...guestSize(values), repeat };
	const policies = listOf("policy", list);
	// refused before any work is done
	for (const policy of policies) await loadPolicy(policy);
	checkOutputs({ json: values.json, html: values.html }, traces);
	const workloads: Workload[] = [];
	for (const trace of traces) workloads.push(await readTraceFile(trace, traceOptions(values)));
	const env = environment();
	const comparisons: PolicyComparison[] = [];
	for (const workload of workloads)
		comparisons.push(
			await comparePolicies(workload, {
				...asked,
				policies,
				runner: processRunner,
				progress: ({ subject, what }) => progress(`${workload.name}: ${subject}: ${what}`),
			}),
		);
	progress("");
	const { schema, options } = comparisons[0] as PolicyComparison;
	const results = comparisons.flatMap((comparison) => comparison.results);
	const hash = results.find(({ cost }) => cost !== null)?.cost?.engineHash;
	const report = comparePoliciesReport(comparisons, describeEnvironment(env, hash));
	if (values.json !== "-") process.stdout.write(`${renderText(report, { color: mayColor() })}\n`);
	if (values.json !== undefined)
		writeJson<ComparePoliciesDocument>(values.json, { schema, command: "compare", environment: env, options, results });
	if (values.html !== undefined) writeOutput(values.html, renderHtml(report));
	sayWritten(values);
	return 0;
}
