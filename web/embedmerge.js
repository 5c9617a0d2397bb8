/* The script of EmbedMerge's nodes in ComfyUI's page: how a text is read, below its box while the user types, and the
   reports of nodes that have run. The workflow keeps the text as typed; nothing is written into it. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const PAUSE = 300; // milliseconds without a keystroke before a text is read
const LINE = 16; // height of a line in pixels
const MIN_LINES = 2;
const MAX_LINES = 14;

/** Id of a node -> its box with a text, and what the server reads it as. */
const TEXTS = {
    EmbedMergeTextEncode: { box: "text", kind: "text" },
    EmbedMergeCompare: { box: "text", kind: "text" },
    EmbedMergeBuild: { box: "source", kind: "source" },
};

const WITH_REPORTS = ["EmbedMergeTextEncode", "EmbedMergeBuild", "EmbedMergeInspect", "EmbedMergeCompare"];

/** The lines below the boxes of a node. */
class Report {
    #element = document.createElement("div");
    #node;
    #lines = MIN_LINES;

    /** @param {object} node ComfyUI's node */
    constructor(node) {
        this.#node = node;
        this.#element.className = "embedmerge-report";
        Object.assign(this.#element.style, {
            fontSize: "11px",
            lineHeight: `${LINE}px`,
            overflow: "auto",
            whiteSpace: "pre-wrap",
            userSelect: "text",
            color: "var(--input-text)",
            fontFamily: "ui-monospace, monospace",
        });
        const widget = node.addDOMWidget("embedmerge_report", "embedmerge_report", this.#element, {
            serialize: false,
            hideOnZoom: false,
            getMinHeight: () => this.#lines * LINE + 4,
        });
        widget.serialize = false;
    }

    /** Show the lines: plain ones, and after them mistakes in red. */
    show(text, mistakes = []) {
        const parts = [document.createTextNode(text)];
        for (const mistake of mistakes) {
            const line = document.createElement("div");
            line.className = "embedmerge-mistake";
            line.style.color = "#ff6b6b";
            line.textContent = mistake;
            parts.push(line);
        }
        this.#element.replaceChildren(...parts);
        const lines = text.split("\n").length + 2 * mistakes.length;
        this.#lines = Math.min(Math.max(lines, MIN_LINES), MAX_LINES);
        this.#node.setDirtyCanvas?.(true, true);
    }
}

/** Asks the server how the text of a node is read, after each pause in the typing. */
class LiveReading {
    #node;
    #report;
    #kind;
    #box;
    #timer;
    #number = 0;

    /**
     * @param {object} node ComfyUI's node
     * @param {Report} report where the answer is shown
     * @param {{box: string, kind: string}} text an entry of TEXTS
     */
    constructor(node, report, text) {
        this.#node = node;
        this.#report = report;
        this.#kind = text.kind;
        this.#box = node.widgets?.find((widget) => widget.name === text.box);
        for (const widget of node.widgets ?? []) this.#listen(widget);
        const input = this.#box?.inputEl ?? this.#box?.element;
        input?.addEventListener?.("input", () => this.askSoon());
        this.askSoon();
    }

    /** Ask after a pause. */
    askSoon() {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#ask(), PAUSE);
    }

    #listen(widget) {
        const callback = widget.callback;
        widget.callback = (...values) => {
            this.askSoon();
            return callback?.apply(widget, values);
        };
    }

    async #ask() {
        const text = this.#box?.value;
        const isLinked = this.#node.inputs?.some((input) => input.name === this.#box?.name && input.link != null);
        if (typeof text !== "string" || isLinked) return;
        const number = ++this.#number;
        const names = this.#node.widgets?.find((widget) => widget.name === "embedding_names")?.value;
        const body = JSON.stringify({ text, kind: this.#kind, embedding_names: names });
        let answer;
        try {
            const headers = { "Content-Type": "application/json" };
            const response = await api.fetchApi("/embedmerge/read", { method: "POST", headers, body });
            answer = await response.json();
        } catch {
            return; // the server is being restarted; the next keystroke asks again
        }
        if (number === this.#number) {
            this.#report.show(answer.line ?? "", (answer.mistakes ?? []).map((mistake) => mistake.sentence));
        }
    }
}

app.registerExtension({
    name: "embedmerge.nodes",

    /** Add the report to each new node of EmbedMerge. */
    nodeCreated(node) {
        const id = node.comfyClass;
        if (!WITH_REPORTS.includes(id)) return;
        const report = new Report(node);
        const reading = id in TEXTS ? new LiveReading(node, report, TEXTS[id]) : null;
        const onExecuted = node.onExecuted;
        node.onExecuted = function (message, ...rest) {
            onExecuted?.call(this, message, ...rest);
            const lines = message?.embedmerge_report;
            if (Array.isArray(lines)) report.show(lines.join("\n"));
        };
        const onConfigure = node.onConfigure;
        node.onConfigure = function (...values) {
            const result = onConfigure?.apply(this, values);
            reading?.askSoon(); // the boxes have the texts of the workflow now
            return result;
        };
    },
});
