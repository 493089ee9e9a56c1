import "../vmbus/server-both.test.ts";
