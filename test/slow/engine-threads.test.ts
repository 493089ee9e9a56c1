import "../engine/threads.test.ts";
