/**
 * The page Library: sorts and filters its rows, knows which are ticked, and has fits measured and jobs looked after.
 *
 * The server sends the table whole; what it is asked for here goes through buttons that nobody sees, as in embedmerge.js.
 */
class EmbedMergeLibrary {
    /** Fits asked for at once: an answer takes a moment then, also where nothing is known yet. */
    static BATCH = 40;
    /** Milliseconds between two looks at the page, and at a job that runs. */
    static LOOK = 300;
    static JOB = 1000;

    /** What the buttons below the table are about, in JSON; and what a button in a message is about. */
    chosen = "[]";
    order = "";

    #fits = new EmbedMergeQuestion("fit", "fits", () => this.#takeFits());
    #wanted = [];
    #arranged = null;
    #status = "";
    #sorted = { column: 0, isUp: true };
    #jobAt = 0;
    #isFitless = false;
    #shown = false;

    constructor() {
        document.addEventListener("input", (event) => this.#changed(event));
        document.addEventListener("change", (event) => this.#changed(event));
        // Before gradio's own handlers, which put another button in the place of a tab's that was clicked.
        document.addEventListener("click", (event) => this.#clicked(event), true);
        setInterval(() => this.#look(), EmbedMergeLibrary.LOOK);
    }

    /** Called by gradio when fits are asked for: the number of the question, and whose they are. */
    asking() {
        this.#wanted = this.#unmeasured().slice(0, EmbedMergeLibrary.BATCH);
        return `${this.#fits.asking()}\n${JSON.stringify(this.#wanted.map((row) => row.dataset.embedmergePlace))}`;
    }

    #changed(event) {
        const target = event.target;
        if (target.closest?.("#embedmerge_filter, #embedmerge_fitting")) {
            this.#filter();
        } else if (target.matches?.("#embedmerge_shelf .embedmerge-every")) {
            for (const row of this.#rows().filter((row) => !row.hidden)) {
                row.querySelector(".embedmerge-chosen").checked = target.checked;
            }
            this.#choose();
        } else if (target.matches?.("#embedmerge_shelf .embedmerge-chosen")) {
            this.#choose();
        }
    }

    #clicked(event) {
        if (event.target.closest?.(EmbedMerge.TABS)) {
            this.#shown = false; // listed anew once it is, however soon
        }
        if (!this.#shown) {
            return;
        }
        // The list of a dropdown is drawn elsewhere, and its box changes without a word.
        setTimeout(() => this.#filter(), 50);
        const element = event.target.closest?.("#embedmerge [data-embedmerge-action]");
        const data = element?.dataset ?? {};
        if (data.embedmergeAction === "sort") {
            this.#sort(Number(data.embedmergeColumn));
        } else if (data.embedmergeAction === "order") {
            this.order = data.embedmergeOrder;
            this.#press(data.embedmergePress);
        }
    }

    #look() {
        const isShown = Boolean(document.querySelector("#embedmerge_filter")?.offsetParent);
        if (isShown && !this.#shown) {
            this.#press("shelve");
            this.#press("models");
        }
        this.#shown = isShown;
        const table = this.#table();
        if (!table?.offsetParent) {
            return;
        }
        if (table !== this.#arranged) {
            this.#arranged = table;
            this.#isFitless = false;
            this.#arrange();
            this.#filter();
            this.#choose();
        }
        const status = document.querySelector("#embedmerge_status")?.textContent ?? "";
        if (status !== this.#status) {
            this.#status = status;
            this.#forgetFits();
        }
        if (!this.#isFitless && this.#unmeasured().length) {
            this.#fits.ask();
        }
        const job = document.querySelector("#embedmerge_done [data-embedmerge-job]");
        if (job && Date.now() - this.#jobAt > EmbedMergeLibrary.JOB) {
            this.#jobAt = Date.now();
            this.order = job.dataset.embedmergeJob;
            this.#press("job");
        }
    }

    /** Rows whose fit is not known, those in sight first. */
    #unmeasured() {
        const box = this.#table()?.parentElement.getBoundingClientRect();
        const rows = this.#rows().filter((row) => row.dataset.embedmergeStatus === "not measured");
        const inSight = (row) => {
            const place = row.getBoundingClientRect();
            return !row.hidden && place.bottom > box.top && place.top < box.bottom;
        };
        const first = rows.filter(inSight);
        return [...first, ...rows.filter((row) => !first.includes(row))];
    }

    #takeFits() {
        const found = new Map();
        for (const fit of document.querySelectorAll("#embedmerge_fits [data-embedmerge-place]")) {
            found.set(fit.dataset.embedmergePlace, fit);
        }
        // Without a model nothing is known of any; asked again once there is another one, or other rows.
        this.#isFitless = found.size === 0;
        for (const row of this.#wanted) {
            const fit = found.get(row.dataset.embedmergePlace);
            if (fit) {
                row.dataset.embedmergeStatus = fit.dataset.embedmergeStatus;
                this.#cell(row, 5).replaceChildren(...[...fit.childNodes].map((node) => node.cloneNode(true)));
            }
        }
        if (this.#sorted.column === 5) {
            this.#arrange();
        }
        this.#filter();
    }

    #forgetFits() {
        this.#isFitless = false;
        for (const row of this.#rows()) {
            if (row.dataset.embedmergeStatus !== "cannot be used") {
                row.dataset.embedmergeStatus = "not measured";
                this.#cell(row, 5).replaceChildren();
            }
        }
    }

    #filter() {
        const value = (name) => document.querySelector(`#embedmerge_${name} input, #embedmerge_${name} textarea`)?.value;
        const words = (value("filter") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
        const status = value("fitting") || "all";
        let shown = 0;
        const rows = this.#rows();
        for (const row of rows) {
            const text = row.textContent.toLowerCase();
            const isOfStatus = status === "all" || row.dataset.embedmergeStatus === status;
            row.hidden = !(isOfStatus && words.every((word) => text.includes(word)));
            shown += row.hidden ? 0 : 1;
        }
        const total = document.querySelector("#embedmerge_shelf .embedmerge-total");
        if (total) {
            total.dataset.embedmergeAll ??= total.textContent;
            const all = total.dataset.embedmergeAll;
            total.textContent = shown === rows.length ? all : `${shown} of ${all}`;
        }
    }

    #sort(column) {
        this.#sorted = { column, isUp: this.#sorted.column === column ? !this.#sorted.isUp : true };
        this.#arrange();
    }

    /** Put the rows into the order that was asked for; the server's is by name. */
    #arrange() {
        const { column, isUp } = this.#sorted;
        const table = this.#table();
        if (!column || !table) {
            return;
        }
        const key = (row) => this.#cell(row, column).textContent.trim();
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        const rows = this.#rows().map((row) => [key(row), row]);
        // What has nothing there comes last either way.
        rows.sort(([a], [b]) => (!a || !b ? Number(!a) - Number(!b) : (isUp ? 1 : -1) * order.compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
        table.querySelectorAll("thead th").forEach((head, place) => {
            head.ariaSort = place === column ? (isUp ? "ascending" : "descending") : "none";
        });
    }

    /** Rows that are ticked are what the buttons below are about; of a single one its name and notes can be edited. */
    #choose() {
        const rows = this.#rows().filter((row) => row.querySelector(".embedmerge-chosen").checked);
        const chosen = JSON.stringify(rows.map((row) => row.dataset.embedmergePlace));
        const isAnother = chosen !== this.chosen;
        this.chosen = chosen;
        if (isAnother && rows.length === 1) {
            this.#write("newname", rows[0].dataset.embedmergeName);
            this.#write("newnotes", rows[0].dataset.embedmergeNotes);
        }
    }

    #press(name) {
        document.querySelector(`#embedmerge_${name}`)?.click();
    }

    /** As it is now: each change of the library brings another one. */
    #table() {
        return document.querySelector("#embedmerge_shelf table");
    }

    #rows() {
        return [...(this.#table()?.tBodies[0].rows ?? [])];
    }

    #cell(row, column) {
        return row.cells[column];
    }

    /** As if it had been typed. */
    #write(name, text) {
        const box = document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
        if (box) {
            box.value = text;
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }
}

window.embedMergeLibrary = new EmbedMergeLibrary();
