"""Parts of HTML pages: pictures, tables, style sheets, scripts."""
