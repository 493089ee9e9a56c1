import "../vmbus/server-property.test.ts";
