"""What is served to the home: ECHONET Lite, its announcements, and the link's diagnosis."""
