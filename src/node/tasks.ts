/** What a process of its own can do. */
import { localRunner } from "../study/runner.ts";
import { loadPolicy } from "./policy-file.ts";

const { run, audit } = localRunner(loadPolicy);

/** Arguments and results are plain data. */
export const TASKS = { run, audit };
export type Tasks = typeof TASKS;
