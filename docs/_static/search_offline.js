// A page opened from disk may not fetch others, so the search shows titles without summaries there.
if (window.location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
