/**
 * The page Library: sorts and filters its rows, knows which are ticked, and has fits measured and jobs looked after.
 * What is done is done with rows that are ticked and shown.
 *
 * The server sends the table whole; what it is asked for here goes through buttons that nobody sees, as in embedmerge.js.
 */
class EmbedMergeLibrary {
    /** Fits asked for at once: an answer takes a moment then, also where nothing is known yet. */
    static BATCH = 40;
    /** Milliseconds between two looks at the page, and at a job that runs. */
    static LOOK = 300;
    static JOB = 1000;

    /** What the buttons below the table are about, in JSON; what a button in a message is about; the rebuild. */
    chosen = "[]";
    order = "";
    job = "";

    #fits = new EmbedMergeQuestion("fit", "fits", () => this.#takeFits());
    #wanted = [];
    /** Another table is arranged before anybody sees it. */
    #redrawn = new MutationObserver(() => this.#adopt());
    #shelf = null;
    #arranged = null;
    #status = "";
    #sorted = { column: "", isUp: true };
    #filtered = "";
    #ticked = new Set();
    #notes = "";
    #jobAt = 0;
    #ended = "";
    #isStale = false;
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

    /** Called by gradio when notes are saved: what was in the box before it was edited, and whose notes they are. */
    noting() {
        return JSON.stringify([this.#notes, ...JSON.parse(this.chosen)]);
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
        const element = event.target.closest?.("#embedmerge [data-embedmerge-action]");
        const data = element?.dataset ?? {};
        if (data.embedmergeAction === "sort") {
            this.#sort(data.embedmergeColumn);
        } else if (data.embedmergeAction === "order") {
            this.order = data.embedmergeOrder;
            this.#press(data.embedmergePress);
        }
    }

    #look() {
        const isShown = Boolean(document.querySelector("#embedmerge_filter")?.offsetParent);
        if (isShown && !this.#shown) {
            this.#isStale = true;
            this.#press("models");
            this.#forgetFits(); // a setting may have changed them, and gradio 4 draws no table again that is as it was
        }
        this.#shown = isShown;
        if (!isShown) {
            return;
        }
        const shelf = document.querySelector("#embedmerge_shelf");
        if (shelf !== this.#shelf) {
            this.#shelf = shelf;
            this.#redrawn.observe(shelf, { childList: true, subtree: true });
            this.#adopt();
        }
        if (this.#filters().join("\n") !== this.#filtered) {
            this.#filter(); // the box of a dropdown changes without a word
        }
        this.#lookAfterJob();
        if (this.#isStale && !shelf.querySelector(".pending")) { // gradio drops a click while one is under way
            this.#isStale = false;
            this.#press("shelve");
        }
        // Not all of the element's text: gradio 4 writes beside the answer how long the next one takes.
        const status = document.querySelector("#embedmerge_status .embedmerge-view")?.textContent ?? this.#status;
        if (status !== this.#status) {
            this.#status = status;
            this.#forgetFits();
        }
        if (!this.#isFitless && this.#unmeasured().length) {
            this.#fits.ask();
        }
    }

    /** Ask how far a rebuild is while it runs, and for the list once it is over. */
    #lookAfterJob() {
        const { embedmergeJob: running, embedmergeEnded: ended } =
            document.querySelector("#embedmerge_job .embedmerge-job")?.dataset ?? {};
        if (running && Date.now() - this.#jobAt > EmbedMergeLibrary.JOB) {
            this.#jobAt = Date.now();
            this.job = running;
            this.#press("watch");
        }
        if (ended && ended !== this.#ended) {
            this.#ended = ended;
            this.#isStale = true;
        }
    }

    /** Have the rows of another table as those of the last were: ticked, sorted and filtered. */
    #adopt() {
        const table = this.#table();
        if (table === this.#arranged) {
            return;
        }
        this.#arranged = table;
        this.#isFitless = false;
        for (const row of this.#rows()) {
            row.querySelector(".embedmerge-chosen").checked ||= this.#ticked.has(row.dataset.embedmergePlace);
        }
        this.#arrange();
        this.#filter();
    }

    /** Rows whose fit is not known, those in sight first. */
    #unmeasured() {
        const box = this.#table()?.parentElement.getBoundingClientRect();
        const rows = this.#rows().filter((row) => row.dataset.embedmergeStatus === this.#word("unmeasured"));
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
                this.#cell(row, "fit").replaceChildren(...[...fit.childNodes].map((node) => node.cloneNode(true)));
            }
        }
        if (this.#sorted.column === "fit") {
            this.#arrange();
        }
        this.#filter();
    }

    #forgetFits() {
        this.#isFitless = false;
        for (const row of this.#rows()) {
            if (row.dataset.embedmergeStatus !== this.#word("unusable")) {
                row.dataset.embedmergeStatus = this.#word("unmeasured");
                this.#cell(row, "fit").replaceChildren();
            }
        }
    }

    /** What rows are to have, as it stands in the two boxes. */
    #filters() {
        return [this.#box("filter")?.value ?? "", this.#box("fitting")?.value || this.#word("all")];
    }

    #filter() {
        const [asked, status] = this.#filters();
        this.#filtered = [asked, status].join("\n");
        const words = asked.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        const rows = this.#rows();
        for (const row of rows) {
            const text = row.dataset.embedmergeWords.toLowerCase();
            const isOfStatus = status === this.#word("all") || row.dataset.embedmergeStatus === status;
            row.hidden = !(isOfStatus && words.every((word) => text.includes(word)));
            shown += row.hidden ? 0 : 1;
        }
        const total = document.querySelector("#embedmerge_shelf .embedmerge-total");
        if (total) {
            total.dataset.embedmergeAll ??= total.textContent;
            const all = total.dataset.embedmergeAll;
            total.textContent = shown === rows.length ? all : `${this.#grouped(shown)} of ${all}`;
        }
        this.#choose();
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
        const key = (row) => {
            const cell = this.#cell(row, column);
            return cell.querySelector("[data-embedmerge-by]")?.dataset.embedmergeBy ?? cell.textContent.trim();
        };
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        const rows = this.#rows().map((row) => [key(row), row]);
        // What has nothing there comes last either way.
        rows.sort(([a], [b]) => (!a || !b ? Number(!a) - Number(!b) : (isUp ? 1 : -1) * order.compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
        for (const head of table.querySelectorAll("thead th")) {
            const isSorted = head.dataset.embedmergeColumn === column;
            head.ariaSort = isSorted ? (isUp ? "ascending" : "descending") : "none";
        }
    }

    /** The cell of a row in the column of that title. */
    #cell(row, column) {
        return row.querySelector(`td[data-embedmerge-column="${column}"]`);
    }

    /** A word that the page has for a state of rows: `all`, `unmeasured` or `unusable`. */
    #word(state) {
        return this.#table()?.getAttribute(`data-embedmerge-${state}`) ?? "";
    }

    /** Rows that are ticked and shown are what the buttons below are about; of a single one the name can be edited. */
    #choose() {
        const places = (rows) => rows.map((row) => row.dataset.embedmergePlace);
        const ticked = this.#rows().filter((row) => row.querySelector(".embedmerge-chosen").checked);
        const rows = ticked.filter((row) => !row.hidden);
        this.#ticked = new Set(places(ticked));
        const chosen = JSON.stringify(places(rows));
        const isAnother = chosen !== this.chosen;
        this.chosen = chosen;
        const without = ticked.length - rows.length;
        const hidden = without ? `, not counting ${this.#grouped(without)} that the filter hides` : "";
        const told = `${this.#grouped(rows.length)} ticked${hidden}`;
        document.querySelector("#embedmerge_shelf .embedmerge-ticked")?.replaceChildren(told);
        if (isAnother && rows.length === 1) {
            this.#write(this.#box("newname"), rows[0].dataset.embedmergeName);
        }
        this.#showNotes(rows, isAnother);
    }

    /** Show the notes that rows have in common, unless something was written into the box that is not saved yet. */
    #showNotes(rows, isAnother) {
        const box = this.#box("newnotes");
        if (!box) {
            return;
        }
        const all = new Set(rows.map((row) => row.dataset.embedmergeNotes?.replace(/\r\n?/g, "\n"))); // as in a box
        const notes = (all.size === 1 && [...all][0]) || "";
        box.placeholder = all.has(undefined) ? "too long to show here" : all.size > 1 ? "different notes" : "";
        const isUntouched = box.value === this.#notes || (isAnother && !box.value);
        if (isUntouched && box.value !== notes) {
            this.#write(box, notes);
        }
        if (isUntouched || box.value.trim() === notes.trim()) {
            this.#notes = box.value;
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

    #box(name) {
        return document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
    }

    /** A number as the server writes them. */
    #grouped(number) {
        return number.toLocaleString("en");
    }

    /** As if it had been typed. */
    #write(box, text) {
        if (box) {
            box.value = text;
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }
}

window.embedMergeLibrary = new EmbedMergeLibrary();
