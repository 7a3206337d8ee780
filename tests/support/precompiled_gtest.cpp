// Brings the precompiled header of all tests about; CMake wants a program that it is compiled for.
int main() {}
