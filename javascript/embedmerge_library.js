/**
 * The page Library. The script sorts and filters the rows of the table, remembers which are ticked, requests fits, and
 * follows the progress of a rebuild. Actions apply to the rows that are ticked and visible.
 *
 * The server sends the whole table. The script asks it by clicking hidden buttons, as embedmerge.js does.
 */
class EmbedMergeLibrary {
    /** Number of fits in one request: few enough that an answer comes soon even if none is cached. */
    static BATCH = 40;
    /** Milliseconds between two checks of the page, and between two requests for the progress of a rebuild. */
    static CHECK_INTERVAL = 300;
    static JOB_INTERVAL = 1000;

    /** Values for events: ticked and visible files in JSON, the argument of a button in a message, the rebuild's id. */
    tickedFiles = "[]";
    order = "";
    jobId = "";

    #fits = new EmbedMergeQuestion("fit", "fits", () => this.#showFits());
    /** Rows whose fits are requested. */
    #requestedRows = [];
    /** Prepares a new table before the browser draws it. */
    #tableObserver = new MutationObserver(() => this.#prepareTable());
    #listing = null;
    #preparedTable = null;
    #status = "";
    #sorted = { column: "", isUp: true };
    #appliedFilters = "";
    #tickedPlaces = new Set();
    /** The notes that the script has written into the box. */
    #shownNotes = "";
    #jobAskedAt = 0;
    #endedJob = "";
    #isStale = false;
    /** Whether the last request for fits had no answer, because there is no model. */
    #hasNoFits = false;
    #wasShown = false;

    constructor() {
        document.addEventListener("input", (event) => this.#onEdit(event));
        document.addEventListener("change", (event) => this.#onEdit(event));
        // In the capture phase, because gradio's own handlers replace the button of a page that was clicked.
        document.addEventListener("click", (event) => this.#onClick(event), true);
        setInterval(() => this.#check(), EmbedMergeLibrary.CHECK_INTERVAL);
    }

    /** Called by gradio when it requests fits. Returns the number of the question, then a line with the files. */
    takeFitQuestion() {
        this.#requestedRows = this.#putVisibleFirst(this.#listUnmeasured()).slice(0, EmbedMergeLibrary.BATCH);
        const places = this.#requestedRows.map((row) => row.dataset.embedmergePlace);
        return `${this.#fits.takeNumber()}\n${JSON.stringify(places)}`;
    }

    /** Called by gradio when it saves notes. Returns JSON: the notes in the box before the edit, then the files. */
    takeNotesMessage() {
        return JSON.stringify([this.#shownNotes, ...JSON.parse(this.tickedFiles)]);
    }

    /** JSON for gradio when it writes what was restored: the id of the job, then the numbers of the ticked results. */
    get tickedResults() {
        const boxes = document.querySelectorAll("#embedmerge_job .embedmerge-restored:checked");
        return JSON.stringify([this.order, ...[...boxes].map((box) => box.dataset.embedmergeResult)]);
    }

    #onEdit(event) {
        const target = event.target;
        if (target.closest?.("#embedmerge_filter, #embedmerge_fitting")) {
            this.#applyFilters();
        } else if (target.matches?.("#embedmerge_shelf .embedmerge-every")) {
            for (const row of this.#listRows().filter((row) => !row.hidden)) {
                row.querySelector(".embedmerge-chosen").checked = target.checked;
            }
            this.#updateTicked();
        } else if (target.matches?.("#embedmerge_shelf .embedmerge-chosen")) {
            this.#updateTicked();
        }
    }

    #onClick(event) {
        if (event.target.closest?.(EmbedMerge.TABS)) {
            this.#wasShown = false; // updates the table even if no check sees the page hidden
        }
        if (!this.#wasShown) {
            return;
        }
        const element = event.target.closest?.("#embedmerge [data-embedmerge-action]");
        const data = element?.dataset ?? {};
        if (data.embedmergeAction === "sort") {
            this.#sortBy(data.embedmergeColumn);
        } else if (data.embedmergeAction === "order") {
            this.order = data.embedmergeOrder;
            this.#press(data.embedmergePress);
        }
    }

    /** While the page is visible, keep the table, the fits and the progress of a rebuild up to date. */
    #check() {
        const isShown = Boolean(document.querySelector("#embedmerge_filter")?.offsetParent);
        if (isShown && !this.#wasShown) {
            this.#isStale = true;
            this.#press("models");
            this.#forgetFits(); // a setting may have changed them, and gradio 4 does not redraw an unchanged table
        }
        this.#wasShown = isShown;
        if (!isShown) {
            return;
        }
        const listing = document.querySelector("#embedmerge_shelf");
        if (listing !== this.#listing) {
            this.#listing = listing;
            this.#tableObserver.observe(listing, { childList: true, subtree: true });
            this.#prepareTable();
        }
        if (this.#readFilters().join("\n") !== this.#appliedFilters) {
            this.#applyFilters(); // a dropdown sends no event when its value changes
        }
        this.#followJob();
        if (this.#isStale && !listing.querySelector(".pending")) { // gradio drops a click while an event is running
            this.#isStale = false;
            this.#press("shelve");
        }
        // Only the text of the view: gradio 4 writes into the element how long the next answer takes.
        const status = document.querySelector("#embedmerge_status .embedmerge-view")?.textContent ?? this.#status;
        if (status !== this.#status) {
            this.#status = status;
            this.#forgetFits();
        }
        // Not while an answer is awaited: it would count as out of date, and a slow server would never fill in a fit.
        if (!this.#hasNoFits && !this.#fits.isPending && this.#listUnmeasured().length > 0) {
            this.#fits.ask();
        }
    }

    /** Request the progress of a rebuild while it runs, and the table when it has ended. */
    #followJob() {
        const { embedmergeJob: running, embedmergeEnded: ended } =
            document.querySelector("#embedmerge_job .embedmerge-job")?.dataset ?? {};
        if (running && Date.now() - this.#jobAskedAt > EmbedMergeLibrary.JOB_INTERVAL) {
            this.#jobAskedAt = Date.now();
            this.jobId = running;
            this.#press("watch");
        }
        if (ended && ended !== this.#endedJob) {
            this.#endedJob = ended;
            this.#isStale = true;
        }
    }

    /** Tick, sort and filter the rows of a new table as those of the last table were. */
    #prepareTable() {
        const table = this.#findTable();
        if (table === this.#preparedTable) {
            return;
        }
        this.#preparedTable = table;
        this.#setNoFits(false);
        for (const row of this.#listRows()) {
            row.querySelector(".embedmerge-chosen").checked ||= this.#tickedPlaces.has(row.dataset.embedmergePlace);
        }
        this.#sortRows();
        this.#applyFilters();
    }

    /** Rows whose fit is not known. */
    #listUnmeasured() {
        const unmeasured = this.#readWord("unmeasured");
        return this.#listRows().filter((row) => row.dataset.embedmergeStatus === unmeasured);
    }

    /** The same rows, those that are visible first. */
    #putVisibleFirst(rows) {
        const box = this.#findTable()?.parentElement.getBoundingClientRect();
        const isVisible = (row) => {
            const edges = row.getBoundingClientRect();
            return !row.hidden && edges.bottom > box.top && edges.top < box.bottom;
        };
        const visible = new Set(rows.filter(isVisible));
        return [...visible, ...rows.filter((row) => !visible.has(row))];
    }

    /** Copy fits from the answer into their rows. */
    #showFits() {
        const fits = new Map();
        for (const fit of document.querySelectorAll("#embedmerge_fits [data-embedmerge-place]")) {
            fits.set(fit.dataset.embedmergePlace, fit);
        }
        // Without a model there are no fits. They are requested again when the model or the table changes.
        this.#setNoFits(fits.size === 0 && this.#requestedRows.length > 0);
        const column = this.#findColumn("fit");
        for (const row of this.#requestedRows) {
            const fit = fits.get(row.dataset.embedmergePlace);
            if (fit) {
                row.dataset.embedmergeStatus = fit.dataset.embedmergeStatus;
                row.cells[column].replaceChildren(...[...fit.childNodes].map((node) => node.cloneNode(true)));
            }
        }
        if (this.#sorted.column === "fit") {
            this.#sortRows();
        }
        this.#applyFilters();
    }

    /** Remember whether there are no fits to be measured. The cells without a fit say so, or that it is being checked. */
    #setNoFits(hasNone) {
        this.#hasNoFits = hasNone;
        this.#findTable()?.classList.toggle("embedmerge-without-fits", hasNone);
    }

    /** Mark all fits as not measured, so that they are requested again. */
    #forgetFits() {
        this.#setNoFits(false);
        if (this.#fits.isPending) {
            this.#fits.ask(); // the answer that is awaited may be that of the old model
        }
        const [unusable, unmeasured] = [this.#readWord("unusable"), this.#readWord("unmeasured")];
        const column = this.#findColumn("fit");
        for (const row of this.#listRows()) {
            if (row.dataset.embedmergeStatus !== unusable) {
                row.dataset.embedmergeStatus = unmeasured;
                row.cells[column].replaceChildren();
            }
        }
    }

    /** The words and the fit that the user filters by. */
    #readFilters() {
        return [this.#findBox("filter")?.value ?? "", this.#findBox("fitting")?.value || this.#readWord("all")];
    }

    /** Hide the rows that do not have all the words, or another fit. */
    #applyFilters() {
        const [text, status] = this.#readFilters();
        this.#appliedFilters = [text, status].join("\n");
        const words = text.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        const rows = this.#listRows();
        const isForAll = status === this.#readWord("all");
        for (const row of rows) {
            const searched = row.dataset.embedmergeWords.toLowerCase();
            const hasStatus = isForAll || row.dataset.embedmergeStatus === status;
            row.hidden = !(hasStatus && words.every((word) => searched.includes(word)));
            shown += row.hidden ? 0 : 1;
        }
        const total = document.querySelector("#embedmerge_shelf .embedmerge-total");
        if (total) {
            total.dataset.embedmergeAll ??= total.textContent;
            const all = total.dataset.embedmergeAll;
            total.textContent = shown === rows.length ? all : `${this.#formatNumber(shown)} of ${all}`;
        }
        this.#updateTicked();
    }

    /** Sort by a column, or reverse the order if the rows are sorted by it already. */
    #sortBy(column) {
        this.#sorted = { column, isUp: this.#sorted.column === column ? !this.#sorted.isUp : true };
        this.#sortRows();
    }

    /** Sort the rows by the chosen column. Without one they stay as the server sorted them, by name. */
    #sortRows() {
        const { column, isUp } = this.#sorted;
        const table = this.#findTable();
        if (!column || !table) {
            return;
        }
        const index = this.#findColumn(column);
        const key = (row) => {
            const cell = row.cells[index];
            return cell.querySelector("[data-embedmerge-by]")?.dataset.embedmergeBy ?? cell.textContent.trim();
        };
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        const rows = this.#listRows().map((row) => [key(row), row]);
        // Rows with an empty cell come last in either order.
        rows.sort(([a], [b]) => (!a || !b ? Number(!a) - Number(!b) : (isUp ? 1 : -1) * order.compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
        for (const head of table.querySelectorAll("thead th")) {
            const isSorted = head.dataset.embedmergeColumn === column;
            head.ariaSort = isSorted ? (isUp ? "ascending" : "descending") : "none";
        }
    }

    /** The index of the column with this title. */
    #findColumn(title) {
        const heads = this.#findTable()?.tHead.rows[0].cells ?? [];
        return [...heads].findIndex((head) => head.dataset.embedmergeColumn === title);
    }

    /** The word that the page shows for a state: `all`, `unmeasured` or `unusable`. */
    #readWord(state) {
        return this.#findTable()?.getAttribute(`data-embedmerge-${state}`) ?? "";
    }

    /** Update what depends on the ticked and visible rows: the files for actions, the boxes for name and notes. */
    #updateTicked() {
        const places = (rows) => rows.map((row) => row.dataset.embedmergePlace);
        const ticked = this.#listRows().filter((row) => row.querySelector(".embedmerge-chosen").checked);
        const rows = ticked.filter((row) => !row.hidden);
        this.#tickedPlaces = new Set(places(ticked));
        const tickedFiles = JSON.stringify(places(rows));
        const hasChanged = tickedFiles !== this.tickedFiles;
        this.tickedFiles = tickedFiles;
        const hiddenCount = ticked.length - rows.length;
        const hidden = hiddenCount ? `, not counting ${this.#formatNumber(hiddenCount)} that the filter hides` : "";
        const sentence = `${this.#formatNumber(rows.length)} ticked${hidden}`;
        document.querySelector("#embedmerge_shelf .embedmerge-ticked")?.replaceChildren(sentence);
        if (hasChanged && rows.length === 1) {
            this.#write(this.#findBox("newname"), rows[0].dataset.embedmergeName);
        }
        this.#showNotes(rows, hasChanged);
    }

    /** Show the notes that the rows have in common, unless the box has changes that are not saved yet. */
    #showNotes(rows, hasChanged) {
        const box = this.#findBox("newnotes");
        if (!box) {
            return;
        }
        // With line feeds, as in the value of a text box.
        const distinct = new Set(rows.map((row) => row.dataset.embedmergeNotes?.replace(/\r\n?/g, "\n")));
        const notes = (distinct.size === 1 && [...distinct][0]) || "";
        const several = distinct.size > 1 ? "different notes" : "";
        box.placeholder = distinct.has(undefined) ? "too long to show here" : several;
        const isUntouched = box.value === this.#shownNotes || (hasChanged && !box.dataset.embedmergeResult);
        if (isUntouched && box.value !== notes) {
            this.#write(box, notes);
        }
        if (isUntouched || box.value.trim() === notes.trim()) {
            this.#shownNotes = box.value;
        }
    }

    /** Click a button of the tab by its name, if it exists. */
    #press(name) {
        document.querySelector(`#embedmerge_${name}`)?.click();
    }

    /** The table that is shown now. Each change of the library brings a new one. */
    #findTable() {
        return document.querySelector("#embedmerge_shelf table");
    }

    #listRows() {
        return [...(this.#findTable()?.tBodies[0].rows ?? [])];
    }

    #findBox(name) {
        return document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
    }

    /** A number in the form in which the server writes numbers. */
    #formatNumber(number) {
        return number.toLocaleString("en");
    }

    /** Write a text into a box as if it had been typed. */
    #write(box, text) {
        if (box) {
            box.value = text;
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }
}

window.embedMergeLibrary = new EmbedMergeLibrary();
