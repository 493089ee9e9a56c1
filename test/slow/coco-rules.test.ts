import "../coco/rules.test.ts";
